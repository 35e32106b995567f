import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { BackendPolicy, BackendRefused } from "../../src/backends/Policy.ts"
import { BackendLimitReached, BackendNotFound, BackendRegistry, StaticBackend } from "../../src/backends/Registry.ts"
import { type Backend, InvalidBackendUrl, parse } from "../../src/domain/Backend.ts"
import type { Outcome } from "../../src/domain/Outcome.ts"
import { Log } from "../../src/observability/logs/Logging.ts"
import { Metrics } from "../../src/observability/metrics/Metrics.ts"
import { type ResolvedSettings, Settings } from "../../src/settings/Settings.ts"
import { scrape, withFreshMetrics } from "../support/Scrape.ts"

const url = (n: number | string) => `https://pac-${n}.example.com`
const backendOf = (n: number | string, source: "static" | "dynamic") => Result.getOrThrow(parse(url(n), source))

interface Options extends Partial<ResolvedSettings> {
  readonly admit?: BackendPolicy["Service"]["admit"]
  readonly lines?: Array<string>
  readonly removed?: (backend: Backend) => void
}

const layer = (
  { admit = () => Effect.yieldNow, lines = [], removed, ...settings }: Options = {}
) =>
  BackendRegistry.layer.pipe(
    Layer.provide([
      Settings.layerFrom(settings),
      Layer.effect(Metrics, Effect.map(Metrics, (metrics) => ({ ...metrics, removed: removed ?? metrics.removed })))
        .pipe(Layer.provide(Metrics.layer)),
      Layer.succeed(BackendPolicy, {
        admit,
        refusalOf: () => undefined,
        checkAddress: () => undefined
      }),
      Layer.succeed(Log, {
        write: (level, message, fields) =>
          void lines.push([level, message, fields?.["backend"], fields?.["reason"]].filter(Boolean).join(" "))
      })
    ])
  )

const urls = Effect.map(BackendRegistry, (registry) => registry.snapshot().map((backend) => backend.url))
const register = (request: { readonly url: string; readonly ttl?: Duration.Duration }) =>
  Effect.flatMap(BackendRegistry, (registry) => registry.register(request))
const unregister = (which: string) => Effect.flatMap(BackendRegistry, (registry) => registry.unregister(which))

describe("metrics", () => {
  it.effect("count backends by source, and what changes of them", () =>
    withFreshMetrics(
      Effect.gen(function*() {
        assert.strictEqual((yield* scrape).value(`sprayproxy_backends{source="dynamic"}`), 0)
        yield* register({ url: url("a") })
        yield* register({ url: url("b") })
        yield* register({ url: url("static") })
        const seen = yield* scrape
        assert.strictEqual(seen.value(`sprayproxy_backends{source="static"}`), 1)
        assert.strictEqual(seen.value(`sprayproxy_backends{source="dynamic"}`), 2)
        assert.strictEqual(seen.value(`sprayproxy_registry_changes_total{change="registered"}`), 2)
        assert.strictEqual(seen.value(`sprayproxy_registry_changes_total{change="renewed"}`), 1)
      }).pipe(Effect.provide(layer({ backends: [backendOf("static", "static")] })))
    ))
})

describe("registering", () => {
  it.effect("adds to the static backends, in order", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* register({ url: url("b") }), "registered")
      assert.strictEqual(yield* register({ url: url("a") }), "registered")
      assert.deepStrictEqual(yield* urls, [url("static"), url("b"), url("a")])
    }).pipe(Effect.provide(layer({ backends: [backendOf("static", "static")] }))))

  it.effect("equal URLs are one backend, called by the first", () =>
    Effect.gen(function*() {
      yield* register({ url: "https://PAC.example.com:443/" })
      assert.strictEqual(yield* register({ url: "https://pac.example.com" }), "renewed")
      assert.deepStrictEqual(yield* urls, ["https://PAC.example.com:443/"])
      yield* unregister("HTTPS://pac.example.com/")
      assert.deepStrictEqual(yield* urls, [])
    }).pipe(Effect.provide(layer())))

  it.effect("a static backend is there already, stays static and never expires", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* register({ url: url(1), ttl: Duration.seconds(1) }), "renewed")
      yield* TestClock.adjust("1 hour")
      const [registration] = yield* Effect.flatMap(BackendRegistry, ({ list }) => list)
      assert.strictEqual(registration?.backend.source, "static")
      assert.isUndefined(registration?.expiresAt)
    }).pipe(Effect.provide(layer({ backends: [backendOf(1, "static")] }))))

  it.effect("tells why a URL or a backend is refused, and keeps it out", () =>
    Effect.gen(function*() {
      assert.instanceOf(yield* Effect.flip(register({ url: "ftp://x" })), InvalidBackendUrl)
      assert.instanceOf(yield* Effect.flip(register({ url: url(1) })), BackendRefused)
      assert.deepStrictEqual(yield* urls, [])
    }).pipe(Effect.provide(layer({ admit: () => Effect.fail(new BackendRefused({ reason: "no" })) }))))

  it.effect("a registration that is given up while the policy looks at it leaves nothing behind", () =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<void>()
      const answer = yield* Deferred.make<void>()
      const admit = () => Effect.andThen(Deferred.succeed(asked, undefined), Deferred.await(answer))
      yield* Effect.gen(function*() {
        const registration = yield* Effect.forkChild(register({ url: url(1) }))
        yield* Deferred.await(asked)
        yield* Fiber.interrupt(registration)
        yield* Deferred.succeed(answer, undefined)
        assert.deepStrictEqual(yield* urls, [])
        assert.strictEqual(yield* register({ url: url(1) }), "registered")
      }).pipe(Effect.provide(layer({ admit })))
    }))

  it.effect("the snapshot is the same array until something changes, and never changes itself", () =>
    Effect.gen(function*() {
      const registry = yield* BackendRegistry
      const before = registry.snapshot()
      yield* registry.register({ url: url(1) })
      const after = registry.snapshot()
      assert.deepStrictEqual(before, [])
      yield* registry.register({ url: url(1), ttl: Duration.hours(1) })
      assert.strictEqual(registry.snapshot(), after)
    }).pipe(Effect.provide(layer())))
})

describe("unregistering", () => {
  it.effect("knows only what is there, and leaves static backends alone", () =>
    Effect.gen(function*() {
      assert.instanceOf(yield* Effect.flip(unregister(url(2))), BackendNotFound)
      assert.instanceOf(yield* Effect.flip(unregister("no url")), BackendNotFound)
      assert.instanceOf(yield* Effect.flip(unregister(`${url(1)}/`)), StaticBackend)
      assert.deepStrictEqual(yield* urls, [url(1)])
    }).pipe(Effect.provide(layer({ backends: [backendOf(1, "static")] }))))

  it.effect("makes room, and says so once the backend is out of the snapshot", () => {
    const removed: Array<string> = []
    let registry: BackendRegistry["Service"] | undefined
    const onRemoved = (backend: Backend) => {
      assert.notInclude(registry!.snapshot(), backend)
      removed.push(backend.url)
    }
    return Effect.gen(function*() {
      registry = yield* BackendRegistry
      yield* register({ url: url(1) })
      const refused = yield* Effect.flip(register({ url: url(2) }))
      assert.deepStrictEqual(refused, new BackendLimitReached({ limit: 1 }))
      yield* unregister(url(1))
      assert.deepStrictEqual(removed, [url(1)])
      assert.strictEqual(yield* register({ url: url(2), ttl: Duration.seconds(1) }), "registered")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(removed, [url(1), url(2)])
    }).pipe(Effect.provide(layer({ dynamicBackendLimit: 1, removed: onRemoved })))
  })
})

describe("time to live", () => {
  it.effect("an expired backend leaves without anyone asking", () =>
    Effect.gen(function*() {
      yield* register({ url: url(3), ttl: Duration.hours(3) })
      yield* register({ url: url(1), ttl: Duration.hours(1) })
      yield* register({ url: url(0) })
      yield* TestClock.adjust(Duration.millis(3_599_999))
      assert.deepStrictEqual(yield* urls, [url(3), url(1), url(0)])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* urls, [url(3), url(0)])
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(yield* urls, [url(0)])
      yield* TestClock.adjust("9000 hours")
      assert.deepStrictEqual(yield* urls, [url(0)])
    }).pipe(Effect.provide(layer())))

  it.effect("a renewal starts it again, also in the last millisecond", () =>
    Effect.gen(function*() {
      yield* register({ url: url(1), ttl: Duration.minutes(1) })
      for (let renewals = 0; renewals < 5; renewals++) {
        yield* TestClock.adjust(Duration.millis(59_999))
        assert.strictEqual(yield* register({ url: url(1), ttl: Duration.minutes(1) }), "renewed")
      }
      yield* TestClock.adjust(Duration.millis(59_999))
      assert.deepStrictEqual(yield* urls, [url(1)])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* urls, [])
    }).pipe(Effect.provide(layer())))

  it.effect("a renewal may shorten it, and without a ttl ends it", () =>
    Effect.gen(function*() {
      yield* register({ url: url("short"), ttl: Duration.hours(5) })
      yield* register({ url: url("short"), ttl: Duration.minutes(1) })
      yield* register({ url: url("stays"), ttl: Duration.minutes(1) })
      yield* register({ url: url("stays") })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* urls, [url("stays")])
      yield* TestClock.adjust("10 hours")
      assert.deepStrictEqual(yield* urls, [url("stays")])
    }).pipe(Effect.provide(layer())))

  it.effect.each([600_000, -600_000])(
    "is as long as it was said when the clock is set by %d ms meanwhile",
    (step) =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        let stepped = 0
        const stepping = { ...clock, currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + stepped }
        yield* TestClock.setTime(1e12)
        yield* Effect.gen(function*() {
          const registry = yield* BackendRegistry
          yield* register({ url: url(1), ttl: Duration.minutes(5) })
          assert.strictEqual((yield* registry.list)[0]!.expiresAt, 1e12 + 300_000)
          stepped = step
          yield* TestClock.adjust("299 seconds")
          assert.deepStrictEqual(yield* urls, [url(1)])
          assert.strictEqual((yield* registry.list)[0]!.expiresAt, 1e12 + step + 300_000)
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* urls, [])
        }).pipe(Effect.provide(layer()), Effect.provideService(Clock.Clock, stepping))
      })
  )

  it.effect("goes on ending them after a defect", () => {
    let defects = 0
    const removed = () => {
      if ((defects += 1) === 1) throw new Error("defect")
    }
    return Effect.gen(function*() {
      yield* register({ url: url(1), ttl: Duration.minutes(1) })
      yield* register({ url: url(2), ttl: Duration.minutes(2) })
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(yield* urls, [])
      assert.strictEqual(defects, 2)
    }).pipe(Effect.provide(layer({ removed })))
  })

  it.effect("one that was unregistered does not end its successor", () =>
    Effect.gen(function*() {
      yield* register({ url: url(1), ttl: Duration.minutes(1) })
      yield* unregister(url(1))
      yield* register({ url: url(1), ttl: Duration.minutes(2) })
      yield* TestClock.adjust(Duration.millis(119_999))
      assert.deepStrictEqual(yield* urls, [url(1)])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* urls, [])
    }).pipe(Effect.provide(layer())))
})

describe("many changes at once", () => {
  it.effect("two thousand lose none", () =>
    Effect.gen(function*() {
      const gone = Array.from({ length: 500 }, (_, n) => n)
      yield* Effect.forEach(gone, (n) => register({ url: url(n) }), { discard: true })
      const changes = gone.flatMap((n) => [
        register({ url: url(500 + 3 * n) }),
        unregister(url(n)),
        register({ url: url(501 + 3 * n) }),
        register({ url: url(502 + 3 * n) })
      ])
      yield* Effect.all(changes, { concurrency: "unbounded", discard: true })
      assert.sameMembers(yield* urls, Array.from({ length: 1500 }, (_, n) => url(500 + n)))
    }).pipe(Effect.provide(layer({ dynamicBackendLimit: 2000 }))))

  it.effect("the limit holds when all are admitted in the same moment", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      let waiting = 0
      const admit = () => {
        waiting += 1
        return waiting === 50 ? Deferred.succeed(gate, undefined) : Deferred.await(gate)
      }
      yield* Effect.gen(function*() {
        const results = yield* Effect.all(
          Array.from({ length: 50 }, (_, n) => Effect.result(register({ url: url(n) }))),
          { concurrency: "unbounded" }
        )
        assert.lengthOf(results.filter(Result.isSuccess), 10)
        assert.lengthOf(
          results.filter((one) => Result.isFailure(one) && one.failure instanceof BackendLimitReached),
          40
        )
        assert.lengthOf(yield* urls, 11)
      }).pipe(
        Effect.provide(layer({ admit, dynamicBackendLimit: 10, backends: [backendOf("static", "static")] }))
      )
    }))

  it.effect("the same URL fifty times is registered once and renewed 49 times", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      let waiting = 0
      const admit = () => {
        waiting += 1
        return waiting === 50 ? Deferred.succeed(gate, undefined) : Deferred.await(gate)
      }
      yield* Effect.gen(function*() {
        const results = yield* Effect.all(
          Array.from({ length: 50 }, (_, n) => register({ url: `${url(1)}${"/".repeat(n)}` })),
          { concurrency: "unbounded" }
        )
        assert.lengthOf(results.filter((one) => one === "registered"), 1)
        assert.lengthOf(results.filter((one) => one === "renewed"), 49)
        assert.lengthOf(yield* urls, 1)
      }).pipe(Effect.provide(layer({ admit, dynamicBackendLimit: 1 })))
    }))
})

describe("what it shows", () => {
  it.effect("when a backend came, when it leaves and how its last attempt ended", () =>
    Effect.gen(function*() {
      const registry = yield* BackendRegistry
      yield* TestClock.adjust("1 second")
      yield* register({ url: url(1), ttl: Duration.seconds(9) })
      const [, fresh] = yield* registry.list
      assert.deepInclude(fresh, { registeredAt: 1_000, expiresAt: 10_000, lastOutcome: undefined })
      const [fixed, dynamic] = registry.snapshot()
      registry.recordOutcome(dynamic!, "failed", 2_000)
      registry.recordOutcome(dynamic!, "delivered", 3_000)
      registry.recordOutcome(fixed!, "timed out", 4_000)
      yield* TestClock.adjust("1 second")
      yield* register({ url: url(1), ttl: Duration.seconds(9) })
      const [first, second] = yield* registry.list
      assert.deepInclude(first, {
        registeredAt: 0,
        expiresAt: undefined,
        lastOutcome: "timed out",
        lastOutcomeAt: 4_000
      })
      assert.deepInclude(second, {
        registeredAt: 1_000,
        expiresAt: 11_000,
        lastOutcome: "delivered",
        lastOutcomeAt: 3_000
      })
      assert.deepInclude(fresh, { expiresAt: 10_000, lastOutcome: undefined })
    }).pipe(Effect.provide(layer({ backends: [backendOf("static", "static")] }))))

  it.effect("an outcome that comes late does not bring a backend back", () =>
    Effect.gen(function*() {
      const registry = yield* BackendRegistry
      yield* register({ url: url(1) })
      const [backend] = registry.snapshot()
      yield* unregister(url(1))
      registry.recordOutcome(backend!, "delivered", 1)
      assert.deepStrictEqual(yield* registry.list, [])
    }).pipe(Effect.provide(layer())))

  it.effect("logs every change in the original's words", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      yield* register({ url: url(1) })
      yield* register({ url: `${url(1)}/`, ttl: Duration.seconds(1) })
      yield* TestClock.adjust("1 second")
      yield* register({ url: url(2) })
      yield* unregister(url(2))
      yield* Effect.flip(unregister(url(2)))
      assert.deepStrictEqual(lines, [
        `info server registered ${url(1)}`,
        `info server already registered ${url(1)}`,
        `info server unregistered ${url(1)} ttl expired`,
        `info server registered ${url(2)}`,
        `info server unregistered ${url(2)}`
      ])
    }).pipe(Effect.provide(layer({ lines })))
  })

  it.effect("logs what is refused, and why", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      yield* register({ url: url(1) })
      yield* Effect.flip(register({ url: url(2) }))
      yield* Effect.flip(register({ url: "ftp://x" }))
      yield* Effect.flip(register({ url: "http://user:hush@x?token=hush#hush" }))
      assert.notInclude(lines.join(), "hush")
      assert.deepStrictEqual(lines.slice(1, 3), [
        `warn server not registered ${url(2)} the limit is reached`,
        "warn server not registered ftp://x a backend url starts with http:// or https://"
      ])
    }).pipe(Effect.provide(layer({ lines, dynamicBackendLimit: 1 })))
  })
})

const attempt = (outcome: Outcome, which: string = url(1)) =>
  Effect.map(BackendRegistry, (registry) => {
    const backend = registry.snapshot().find((one) => one.url === which)
    if (backend !== undefined) registry.recordOutcome(backend, outcome, 0)
  })

describe("a dynamic backend where nothing arrives", () => {
  const deadAfter = Option.some(Duration.hours(1))
  it.effect("is unregistered when attempts have failed for so long, logged and counted", () => {
    const lines: Array<string> = []
    return withFreshMetrics(
      Effect.gen(function*() {
        yield* register({ url: url(1) })
        yield* attempt("unreachable")
        yield* TestClock.adjust("59 minutes")
        yield* attempt("failed")
        assert.deepStrictEqual(yield* urls, [url(1)])
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* urls, [url(1)])
        yield* attempt("timed out")
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(yield* urls, [])
        assert.include(lines, `info server unregistered ${url(1)} no delivery has arrived there for too long`)
        assert.strictEqual((yield* scrape).value(`sprayproxy_registry_changes_total{change="dead"}`), 1)
      }).pipe(Effect.provide(layer({ dynamicBackendDeadAfter: deadAfter, lines })))
    )
  })

  it.effect.each(["delivered", "rejected"] as const)(
    "stays when one was %s meanwhile",
    (arrived) =>
      Effect.gen(function*() {
        yield* register({ url: url(1) })
        yield* attempt("failed")
        yield* TestClock.adjust("50 minutes")
        yield* attempt(arrived)
        yield* attempt("failed")
        yield* TestClock.adjust("50 minutes")
        yield* attempt("failed")
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(yield* urls, [url(1)])
      }).pipe(Effect.provide(layer({ dynamicBackendDeadAfter: deadAfter })))
  )

  it.effect("starts afresh when it is registered again", () =>
    Effect.gen(function*() {
      yield* register({ url: url(1) })
      yield* attempt("failed")
      yield* TestClock.adjust("59 minutes")
      yield* register({ url: url(1) })
      yield* attempt("failed")
      yield* TestClock.adjust("59 minutes")
      yield* attempt("failed")
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* urls, [url(1)])
    }).pipe(Effect.provide(layer({ dynamicBackendDeadAfter: deadAfter }))))

  it.effect("stays where nothing is set, and so does a static one", () =>
    Effect.gen(function*() {
      for (const [setting, which] of [[Option.none(), url(1)], [deadAfter, url("static")]] as const) {
        const services = yield* Layer.build(
          layer({ dynamicBackendDeadAfter: setting, backends: [backendOf("static", "static")] })
        )
        yield* Effect.gen(function*() {
          yield* register({ url: url(1) })
          yield* attempt("failed", which)
          yield* TestClock.adjust("100 hours")
          yield* attempt("failed", which)
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(yield* urls, [url("static"), url(1)])
        }).pipe(Effect.provide(services))
      }
    }))
})

describe("a registration without a ttl", () => {
  it.effect("gets the usual one, and one with a ttl its own", () =>
    Effect.gen(function*() {
      yield* register({ url: url(1) })
      yield* register({ url: url(2), ttl: Duration.hours(2) })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* urls, [url(2)])
    }).pipe(Effect.provide(layer({ dynamicBackendTtl: Option.some(Duration.hours(1)) }))))
})
