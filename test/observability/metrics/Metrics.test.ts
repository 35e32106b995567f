import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import type { AttemptReport } from "../../../src/domain/AttemptReport.ts"
import { parse } from "../../../src/domain/Backend.ts"
import type { Outcome } from "../../../src/domain/Outcome.ts"
import { Metrics } from "../../../src/observability/metrics/Metrics.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"

const backendOf = (url: string) => Result.getOrThrow(parse(url, "dynamic"))
const pac = backendOf("https://pac.example.com:8443")

const statusOf: Partial<Record<Outcome, number>> = { delivered: 202, rejected: 400, failed: 502 }

const reportOf = (outcome: Outcome, latency = 20): AttemptReport => ({
  outcome,
  status: statusOf[outcome],
  error: undefined,
  answer: undefined,
  latency,
  requests: 1
})

const forwardedAs = (error: string) =>
  `sprayproxy_http_forwarded_requests_total{error="${error}",host="pac.example.com:8443"}`

const labels = (more: string) => `{host="pac.example.com:8443",${more}}`

/** Runs `test` with the service on metrics of its own. */
const withMetrics = <A, E, R>(test: (metrics: Metrics["Service"]) => Effect.Effect<A, E, R>) =>
  withFreshMetrics(Effect.scoped(
    Effect.flatMap(Layer.build(Metrics.layer), (services) => test(Context.get(services, Metrics)))
  ))

const attempt = (metrics: Metrics["Service"], report: AttemptReport, backend = pac) => {
  metrics.began(backend)
  metrics.settled(backend, report)
  metrics.ended(backend)
}

/** All that is counted of a backend is more than 0. */
const countEverything = (metrics: Metrics["Service"]) => {
  for (const outcome of ["delivered", "rejected", "failed", "unreachable", "broken off", "timed out"] as const) {
    attempt(metrics, reportOf(outcome, 1))
  }
  metrics.retried(pac)
}

describe("the original's metrics", () => {
  it.effect("inbound requests are counted as they come", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      assert.strictEqual((yield* scrape).value("sprayproxy_http_inbound_requests_total"), 0)
      metrics.inbound()
      metrics.inbound()
      assert.strictEqual((yield* scrape).value("sprayproxy_http_inbound_requests_total"), 2)
    })))

  it.effect.each(
    [
      ["delivered", "none"],
      ["rejected", "http-error"],
      ["failed", "http-error"],
      ["unreachable", "non-http-error"],
      ["broken off", "non-http-error"],
      ["timed out", "non-http-error"]
    ] as const
  )(
    "an attempt that is %s counts as %s, with the host and port as they were configured",
    ([outcome, error]) =>
      withMetrics(Effect.fnUntraced(function*(metrics) {
        metrics.added(pac)
        attempt(metrics, reportOf(outcome))
        const { families } = yield* scrape
        assert.deepStrictEqual(
          families.get("sprayproxy_http_forwarded_requests_total")!.samples,
          new Map(
            ["none", "http-error", "non-http-error"].map((label) => [forwardedAs(label), label === error ? 1 : 0])
          )
        )
      }))
  )

  it.effect("the response time is that of answered attempts, in the original's buckets", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      attempt(metrics, reportOf("delivered", 5))
      attempt(metrics, reportOf("rejected", 40))
      attempt(metrics, reportOf("failed", 6_000))
      for (const outcome of ["unreachable", "broken off", "timed out"] as const) attempt(metrics, reportOf(outcome))
      const name = "sprayproxy_http_response_time_duration_seconds"
      const { families } = yield* scrape
      assert.deepStrictEqual(families.get(name)!.type, "histogram")
      assert.deepStrictEqual(
        families.get(name)!.samples,
        new Map([
          [`${name}_bucket{le="0.005"}`, 1],
          [`${name}_bucket{le="0.05"}`, 2],
          [`${name}_bucket{le="0.5"}`, 2],
          [`${name}_bucket{le="5"}`, 2],
          [`${name}_bucket{le="+Inf"}`, 3],
          [`${name}_sum`, 6.045],
          [`${name}_count`, 3]
        ])
      )
    })))
})

describe("deliveries", () => {
  it.effect("every answer and every reason is there as 0 before its first time", () =>
    withMetrics(Effect.fnUntraced(function*() {
      const { families } = yield* scrape
      const deliveries = families.get("sprayproxy_deliveries_total")!.samples
      assert.sameMembers(Array.from(new Set(deliveries.values())), [0])
      assert.sameMembers(
        Array.from(deliveries.keys(), (key) => /answer="(.*)",reason="(.*)"/.exec(key)!.slice(1).join(": ")),
        [
          "proxied: none",
          "accepted: none",
          "forwarding: none",
          "failed: none",
          "unmatched: none",
          "gone: none",
          "refused: backends unknown",
          "refused: body cut off",
          "refused: body too large",
          "refused: loop",
          "refused: no secret",
          "refused: overloaded",
          "refused: sender too slow",
          "refused: signature malformed",
          "refused: signature mismatch",
          "refused: signature missing",
          "refused: transfer coding unknown"
        ]
      )
    })))

  it.effect("are counted by answer, refusals by reason, with the time they took in seconds", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.answered("proxied", 24)
      metrics.answered("proxied", 9_000)
      metrics.answered("gone", 10_000)
      metrics.refused("signature mismatch", 1)
      const seen = yield* scrape
      assert.strictEqual(seen.value(`sprayproxy_deliveries_total{answer="proxied",reason="none"}`), 2)
      assert.strictEqual(seen.value(`sprayproxy_deliveries_total{answer="gone",reason="none"}`), 1)
      assert.strictEqual(
        seen.value(`sprayproxy_deliveries_total{answer="refused",reason="signature mismatch"}`),
        1
      )
      const duration = "sprayproxy_delivery_duration_seconds"
      assert.strictEqual(seen.value(`${duration}_bucket{answer="proxied",le="0.025"}`), 1)
      assert.strictEqual(seen.value(`${duration}_bucket{answer="proxied",le="9"}`), 2)
      assert.strictEqual(seen.value(`${duration}_sum{answer="proxied"}`), 9.024)
      assert.strictEqual(seen.value(`${duration}_bucket{answer="gone",le="9"}`), 0)
      assert.strictEqual(seen.value(`${duration}_count{answer="refused"}`), 1)
    })))
})

describe("attempts", () => {
  it.effect("every series of a backend is there as 0 when it is registered", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      const seen = yield* scrape
      const keys = seen.keysWith("pac.example.com:8443")
      assert.lengthOf(keys, 3 + 6 + 1 + 15 + 1)
      for (const key of keys) assert.strictEqual(seen.value(key), 0, key)
    })))

  it.effect("are counted by outcome, and timed with or without an answer", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      attempt(metrics, reportOf("delivered", 20))
      attempt(metrics, reportOf("timed out", 15_000))
      const seen = yield* scrape
      assert.strictEqual(seen.value(`sprayproxy_attempts_total${labels("outcome=\"delivered\"")}`), 1)
      assert.strictEqual(seen.value(`sprayproxy_attempts_total${labels("outcome=\"timed out\"")}`), 1)
      assert.strictEqual(seen.value(`sprayproxy_attempts_total${labels("outcome=\"failed\"")}`), 0)
      assert.strictEqual(seen.value(`sprayproxy_attempt_duration_seconds_bucket${labels("le=\"9\"")}`), 1)
      assert.strictEqual(seen.value(`sprayproxy_attempt_duration_seconds_bucket${labels("le=\"15\"")}`), 2)
    })))

  it.effect("are in flight until undici has let go of them", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const inFlight = Effect.map(scrape, (seen) => seen.value("sprayproxy_attempts_in_flight"))
      metrics.began(pac)
      metrics.began(pac)
      assert.strictEqual(yield* inFlight, 2)
      metrics.settled(pac, reportOf("timed out"))
      assert.strictEqual(yield* inFlight, 2)
      metrics.ended(pac)
      assert.strictEqual(yield* inFlight, 1)
    })))

  it.effect("retries have a counter of their own", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      metrics.began(pac)
      metrics.retried(pac)
      metrics.retried(pac)
      metrics.settled(pac, reportOf("delivered"))
      metrics.ended(pac)
      const seen = yield* scrape
      assert.strictEqual(seen.value(`sprayproxy_retries_total{host="pac.example.com:8443"}`), 2)
      assert.strictEqual(
        seen.value(forwardedAs("none")),
        1
      )
    })))

  it.effect("a backend's last success is when it took a delivery, by accepting or by rejecting it", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const lastSuccess = Effect.map(
        scrape,
        (seen) => seen.value(`sprayproxy_backend_last_success_timestamp_seconds{host="pac.example.com:8443"}`)
      )
      metrics.added(pac)
      yield* TestClock.setTime(1_700_000_000_500)
      attempt(metrics, reportOf("failed"))
      assert.strictEqual(yield* lastSuccess, 0)
      attempt(metrics, reportOf("delivered"))
      assert.strictEqual(yield* lastSuccess, 1_700_000_000.5)
      yield* TestClock.adjust("1 minute")
      attempt(metrics, reportOf("timed out"))
      assert.strictEqual(yield* lastSuccess, 1_700_000_000.5)
      attempt(metrics, reportOf("rejected"))
      assert.strictEqual(yield* lastSuccess, 1_700_000_060.5)
    })))
})

describe("the series of a removed backend", () => {
  const keys = Effect.map(scrape, (seen) => seen.keysWith("pac.example.com"))

  it.effect("go at once when nothing is under way", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const before = (yield* scrape).samples
      metrics.added(pac)
      attempt(metrics, reportOf("delivered"))
      metrics.removed(pac)
      assert.deepStrictEqual(Array.from((yield* scrape).samples.keys()), Array.from(before.keys()))
    })))

  it.effect("go with its last attempt, which is still counted", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      metrics.began(pac)
      metrics.began(pac)
      metrics.removed(pac)
      metrics.settled(pac, reportOf("delivered"))
      metrics.ended(pac)
      const attempts = `sprayproxy_attempts_total{host="pac.example.com:8443",outcome="delivered"}`
      assert.strictEqual((yield* scrape).value(attempts), 1)
      metrics.retried(pac)
      metrics.settled(pac, reportOf("delivered"))
      assert.strictEqual((yield* scrape).value(attempts), 2)
      metrics.ended(pac)
      assert.deepStrictEqual(yield* keys, [])
    })))

  it.effect("are there once more for a delivery that began before the removal and sends after it", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      metrics.removed(pac)
      metrics.began(pac)
      metrics.settled(pac, reportOf("delivered"))
      assert.isNotEmpty(yield* keys)
      metrics.ended(pac)
      assert.deepStrictEqual(yield* keys, [])
    })))

  it.effect("are not brought back by what comes late", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      metrics.removed(pac)
      metrics.retried(pac)
      metrics.settled(pac, reportOf("delivered"))
      metrics.removed(pac)
      assert.deepStrictEqual(yield* keys, [])
      metrics.added(pac)
      assert.isNotEmpty(yield* keys)
    })))

  it.effect("stay while another backend has the same name", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const other = backendOf("http://pac.example.com:8443")
      metrics.added(pac)
      metrics.added(other)
      attempt(metrics, reportOf("delivered"))
      attempt(metrics, reportOf("delivered"), other)
      metrics.removed(pac)
      assert.strictEqual(
        (yield* scrape).value(`sprayproxy_attempts_total{host="pac.example.com:8443",outcome="delivered"}`),
        2
      )
      metrics.removed(other)
      assert.deepStrictEqual(yield* keys, [])
    })))

  it.effect("go on where they were if it returns before its last attempt has ended, and else start at 0", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const count = Effect.map(
        scrape,
        (seen) => seen.value(`sprayproxy_attempts_total{host="pac.example.com:8443",outcome="delivered"}`)
      )
      metrics.added(pac)
      metrics.began(pac)
      metrics.settled(pac, reportOf("delivered"))
      metrics.removed(pac)
      metrics.added(pac)
      metrics.ended(pac)
      assert.strictEqual(yield* count, 1)
      metrics.removed(pac)
      metrics.added(pac)
      assert.strictEqual(yield* count, 0)
      attempt(metrics, reportOf("delivered"))
      assert.strictEqual(yield* count, 1)
    })))

  it.effect("are back at 0, every one of them, when it is registered again", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      yield* TestClock.setTime(1_700_000_000_000)
      metrics.added(pac)
      countEverything(metrics)
      const before = yield* scrape
      const first = before.keysWith("pac.example.com")
      assert.deepStrictEqual(first.filter((key) => before.value(key) === 0), [])
      metrics.removed(pac)
      assert.deepStrictEqual(yield* keys, [])

      metrics.added(pac)
      const again = yield* scrape
      assert.sameMembers(Array.from(again.keysWith("pac.example.com")), Array.from(first))
      assert.deepStrictEqual(first.filter((key) => again.value(key) !== 0), [])

      // The scrape shows the current counts.
      countEverything(metrics)
      const after = yield* scrape
      assert.deepStrictEqual(first.map((key) => after.value(key)), first.map((key) => before.value(key)))
    })))

  it.effect("go without those of other backends, of which none loses its count", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const other = backendOf("https://other.example.com")
      metrics.added(other)
      metrics.added(pac)
      attempt(metrics, reportOf("delivered"))
      attempt(metrics, reportOf("delivered"), other)
      metrics.retried(other)
      const before = yield* scrape
      metrics.removed(pac)
      const after = yield* scrape
      assert.deepStrictEqual(after.keysWith("pac.example.com"), [])
      for (const key of before.keysWith("other.example.com")) {
        assert.strictEqual(after.value(key), before.value(key), key)
      }
      attempt(metrics, reportOf("delivered"), other)
      assert.strictEqual(
        (yield* scrape).value(`sprayproxy_attempts_total{host="other.example.com",outcome="delivered"}`),
        2
      )
    })))

  it.effect("are not those of another one on the same host", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      const [live, dead] = [backendOf("https://pac.example.com/live"), backendOf("https://pac.example.com/dead/")]
      metrics.added(live)
      metrics.added(dead)
      attempt(metrics, reportOf("delivered"), live)
      attempt(metrics, reportOf("unreachable"), dead)
      metrics.retried(dead)
      const seen = yield* scrape
      for (const [path, delivered] of [["live", 1], ["dead", 0]] as const) {
        const host = `pac.example.com/${path}`
        assert.strictEqual(seen.value(`sprayproxy_attempts_total{host="${host}",outcome="delivered"}`), delivered)
        assert.strictEqual(seen.value(`sprayproxy_retries_total{host="${host}"}`), 1 - delivered)
      }
      metrics.removed(live)
      assert.deepStrictEqual((yield* scrape).keysWith("/live"), [])
      assert.isNotEmpty((yield* scrape).keysWith("/dead"))
    })))

  const hosts = ["a.example.com", "b.example.com"] as const
  const step = Arbitrary.schema(Schema.Struct({
    host: Schema.Literals(hosts),
    what: Schema.Literals(["added", "removed", "began", "ended", "late"])
  }))

  it.effect.prop(
    "are there exactly while it is registered or has an attempt under way",
    { steps: Arbitrary.array(step, { maxLength: 40 }) },
    ({ steps }) =>
      withMetrics(Effect.fnUntraced(function*(metrics) {
        const registered = new Map<string, boolean>()
        const underWay = new Map<string, number>()
        for (const { host, what } of steps) {
          const backend = backendOf(`https://${host}`)
          const attempts = underWay.get(host) ?? 0
          if (what === "added" && registered.get(host) !== true) {
            registered.set(host, true)
            metrics.added(backend)
          } else if (what === "removed" && registered.get(host) === true) {
            registered.set(host, false)
            metrics.removed(backend)
          } else if (what === "began") {
            underWay.set(host, attempts + 1)
            metrics.began(backend)
          } else if (what === "ended" && attempts > 0) {
            underWay.set(host, attempts - 1)
            metrics.settled(backend, reportOf("failed"))
            metrics.ended(backend)
          } else if (what === "late") {
            metrics.retried(backend)
            metrics.settled(backend, reportOf("failed"))
          }
        }
        const seen = yield* scrape
        for (const host of hosts) {
          const expected = registered.get(host) === true || (underWay.get(host) ?? 0) > 0
          assert.strictEqual(seen.keysWith(host).length > 0, expected, host)
        }
      }))
  )
})

describe("the rest", () => {
  it.effect("every series is of the type that Prometheus is to treat it as, and described", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.added(pac)
      const { families } = yield* scrape
      assert.deepStrictEqual(Object.fromEntries(Array.from(families.values(), ({ name, type }) => [name, type])), {
        sprayproxy_http_inbound_requests_total: "counter",
        sprayproxy_http_forwarded_requests_total: "counter",
        sprayproxy_http_response_time_duration_seconds: "histogram",
        sprayproxy_deliveries_total: "counter",
        sprayproxy_delivery_duration_seconds: "histogram",
        sprayproxy_attempts_total: "counter",
        sprayproxy_attempts_in_flight: "gauge",
        sprayproxy_attempt_duration_seconds: "histogram",
        sprayproxy_retries_total: "counter",
        sprayproxy_backend_last_success_timestamp_seconds: "gauge",
        sprayproxy_registry_changes_total: "counter"
      })
      for (const { help, name } of families.values()) assert.isNotEmpty(help, name)
    })))

  it.effect("each registry has counts of its own", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.inbound()
      metrics.began(pac)
      yield* withMetrics(Effect.fnUntraced(function*(others) {
        others.inbound()
        others.inbound()
        const seen = yield* scrape
        assert.strictEqual(seen.value("sprayproxy_http_inbound_requests_total"), 2)
        assert.strictEqual(seen.value("sprayproxy_attempts_in_flight"), 0)
        assert.deepStrictEqual(seen.keysWith("pac.example.com"), [])
      }))
      const seen = yield* scrape
      assert.strictEqual(seen.value("sprayproxy_http_inbound_requests_total"), 1)
      assert.strictEqual(seen.value("sprayproxy_attempts_in_flight"), 1)
    })))

  it.effect("counts changes of the registry", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.registryChanged("registered")
      metrics.registryChanged("registered")
      metrics.registryChanged("expired")
      const seen = yield* scrape
      assert.deepStrictEqual(
        seen.families.get("sprayproxy_registry_changes_total")!.samples,
        new Map([
          [`sprayproxy_registry_changes_total{change="registered"}`, 2],
          [`sprayproxy_registry_changes_total{change="renewed"}`, 0],
          [`sprayproxy_registry_changes_total{change="unregistered"}`, 0],
          [`sprayproxy_registry_changes_total{change="expired"}`, 1],
          [`sprayproxy_registry_changes_total{change="dead"}`, 0]
        ])
      )
    })))
})
