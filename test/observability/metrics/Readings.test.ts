import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { createSecretKey } from "node:crypto"
import packageJson from "../../../package.json" with { type: "json" }
import { BackendPolicy } from "../../../src/backends/Policy.ts"
import { BackendRegistry } from "../../../src/backends/Registry.ts"
import { parse } from "../../../src/domain/Backend.ts"
import { Spray } from "../../../src/forwarding/Spray.ts"
import { Log } from "../../../src/observability/logs/Logging.ts"
import { Metrics } from "../../../src/observability/metrics/Metrics.ts"
import { counted, layer, reading } from "../../../src/observability/metrics/Readings.ts"
import { MemoryBudget } from "../../../src/runtime/MemoryBudget.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { WebhookSecrets } from "../../../src/webhook/Secrets.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"

const name = { name: "test_total", help: "A test." }

describe("a reading", () => {
  it.effect("is read when it is scraped, and leaves with its scope", () =>
    withFreshMetrics(Effect.gen(function*() {
      const scope = yield* Scope.make()
      let value = 1
      let reads = 0
      const read = () => {
        reads += 1
        return value
      }
      yield* Scope.provide(reading({ name: "test", help: "A test." }, read, { a: "b" }), scope)
      assert.strictEqual(reads, 0)
      assert.strictEqual((yield* scrape).value(`test{a="b"}`), 1)
      value = 2
      const seen = yield* scrape
      assert.strictEqual(seen.value(`test{a="b"}`), 2)
      assert.deepInclude(seen.families.get("test"), { help: "A test.", type: "gauge" })
      assert.strictEqual(reads, 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* scrape).samples.size, 0)
    })))

  it.effect("of what only grows is a counter", () =>
    withFreshMetrics(Effect.scoped(Effect.gen(function*() {
      let count = 0.5
      yield* counted(name, () => count += 1)
      const seen = yield* scrape
      assert.strictEqual(seen.value("test_total"), 1.5)
      assert.strictEqual(seen.families.get("test_total")!.type, "counter")
      assert.strictEqual((yield* scrape).value("test_total"), 2.5)
    }))))

  it.effect("that fails takes nothing else of a scrape with it", () =>
    withFreshMetrics(Effect.scoped(Effect.gen(function*() {
      let fails = false
      const read = () => {
        if (fails) throw new Error("EMFILE")
        return 3
      }
      yield* reading({ name: "test", help: "A test." }, read)
      yield* counted(name, read)
      yield* counted({ name: "other_total", help: "A test." }, () => 1)
      assert.strictEqual((yield* scrape).value("test"), 3)
      fails = true
      const seen = yield* scrape
      assert.strictEqual(seen.value("test"), 3)
      assert.strictEqual(seen.value("test_total"), 3)
      assert.strictEqual(seen.value("other_total"), 1)
    }))))

  it.effect("does not end its successor", () =>
    withFreshMetrics(Effect.scoped(Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(counted(name, () => 1), scope)
      yield* counted(name, () => 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* scrape).value("test_total"), 2)
    }))))
})

describe("what the services know of themselves", () => {
  const keys = [1, 2].map((n) => createSecretKey(Buffer.from(String(n))))
  const setUp = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]> = {}) {
    const state = { inFlight: 0, secrets: [] as ReadonlyArray<typeof keys[number]>, changedAt: 0 }
    const services = yield* Layer.build(
      layer.pipe(
        Layer.provideMerge(BackendRegistry.layer),
        Layer.provideMerge(Layer.mergeAll(
          MemoryBudget.layer,
          Metrics.layer,
          Layer.succeed(BackendPolicy, {
            admit: () => Effect.void,
            refusalOf: () => undefined,
            checkAddress: () => undefined
          }),
          Layer.succeed(Log, { write: () => {} }),
          Layer.succeed(WebhookSecrets, { current: () => state.secrets, changedAt: () => state.changedAt }),
          Layer.succeed(Spray, {
            spray: () => Effect.never,
            begin: () => {},
            inFlight: () => state.inFlight,
            idle: Effect.never,
            cutOff: Effect.never
          })
        )),
        Layer.provideMerge(Settings.layerFrom(settings))
      )
    )
    return { budget: Context.get(services, MemoryBudget), registry: Context.get(services, BackendRegistry), state }
  })

  it.effect("which version runs", () =>
    withFreshMetrics(Effect.gen(function*() {
      yield* setUp()
      assert.strictEqual(
        (yield* scrape).value(
          `sprayproxy_build_info{node_version="${process.version}",version="${packageJson.version}"}`
        ),
        1
      )
    })))

  it.effect("deliveries in flight, and the memory that they are charged, may be charged and wait for", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { budget, state } = yield* setUp({ bodyMemory: 1_000 })
      state.inFlight = 3
      const first = budget.open()
      first.hold(900)
      const second = budget.open()
      second.hold(200)
      const leave = second.wait(100, () => {})
      const blocked = budget.open()
      const leaveToo = blocked.wait(100, () => {})
      const seen = yield* scrape
      assert.strictEqual(seen.value("sprayproxy_deliveries_in_flight"), 3)
      assert.strictEqual(seen.value("sprayproxy_body_memory_used_bytes"), budget.state().used)
      assert.strictEqual(seen.value("sprayproxy_body_memory_budget_bytes"), 1_000)
      assert.strictEqual(seen.value("sprayproxy_body_memory_waiting"), 1)
      leave()
      leaveToo()
      first.release()
      second.release()
      const after = yield* scrape
      assert.strictEqual(after.value("sprayproxy_body_memory_used_bytes"), 0)
      assert.strictEqual(after.value("sprayproxy_body_memory_waiting"), 0)
    })))

  it.effect("backends by source", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { registry } = yield* setUp({
        backends: [Result.getOrThrow(parse("https://static.example.com", "static"))]
      })
      assert.strictEqual((yield* scrape).value(`sprayproxy_backends{source="dynamic"}`), 0)
      yield* registry.register({ url: "https://one.example.com" })
      yield* registry.register({ url: "https://two.example.com" })
      yield* registry.register({ url: "https://static.example.com" })
      const seen = yield* scrape
      assert.strictEqual(seen.value(`sprayproxy_backends{source="static"}`), 1)
      assert.strictEqual(seen.value(`sprayproxy_backends{source="dynamic"}`), 2)
      assert.strictEqual(seen.value(`sprayproxy_registry_changes_total{change="registered"}`), 2)
      assert.strictEqual(seen.value(`sprayproxy_registry_changes_total{change="renewed"}`), 1)
    })))

  it.effect("how many secrets are accepted, and since when", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { state } = yield* setUp()
      assert.strictEqual((yield* scrape).value("sprayproxy_webhook_secrets"), 0)
      state.secrets = keys
      state.changedAt = 1_700_000_000_500
      const seen = yield* scrape
      assert.strictEqual(seen.value("sprayproxy_webhook_secrets"), 2)
      assert.strictEqual(seen.value("sprayproxy_webhook_secret_changed_timestamp_seconds"), 1_700_000_000.5)
    })))

  it.effect("nothing of secrets where none is looked at", () =>
    withFreshMetrics(Effect.gen(function*() {
      yield* setUp({ insecureSkipWebhookVerify: true })
      assert.deepStrictEqual((yield* scrape).keysWith("webhook_secret"), [])
    })))
})
