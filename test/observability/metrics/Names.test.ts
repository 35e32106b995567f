import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { PassThrough } from "node:stream"
import { fileURLToPath } from "node:url"
import { BackendPolicy } from "../../../src/backends/Policy.ts"
import { BackendRegistry } from "../../../src/backends/Registry.ts"
import { BackendConnections } from "../../../src/backends/connections/Connections.ts"
import { Resolver } from "../../../src/backends/connections/Resolver.ts"
import { parse } from "../../../src/domain/Backend.ts"
import { Forwarder } from "../../../src/forwarding/Forwarder.ts"
import { Ledger } from "../../../src/forwarding/Ledger.ts"
import { Spray } from "../../../src/forwarding/Spray.ts"
import * as MetricsServer from "../../../src/http/MetricsServer.ts"
import { DeliveryLog } from "../../../src/observability/logs/DeliveryLog.ts"
import { Log } from "../../../src/observability/logs/Logging.ts"
import { Metrics } from "../../../src/observability/metrics/Metrics.ts"
import { metricNames } from "../../../src/observability/metrics/Names.ts"
import * as ProcessMetrics from "../../../src/observability/metrics/ProcessMetrics.ts"
import { MemoryBudget } from "../../../src/runtime/MemoryBudget.ts"
import { OwnListeners } from "../../../src/runtime/OwnListeners.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { TurnBudget } from "../../../src/runtime/TurnBudget.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { WebhookSecrets } from "../../../src/webhook/Secrets.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}.pem`, import.meta.url))

/** A scrape with everything on: TLS, a secret, a backend. */
const scrapeOfAll = withFreshMetrics(
  Effect.andThen(
    Layer.build(
      Layer.mergeAll(MetricsServer.layer, ProcessMetrics.layer, Spray.layer, WebhookSecrets.layer).pipe(
        Layer.provide(Layer.mergeAll(Forwarder.layer, DeliveryLog.layer, MemoryBudget.layer, BackendRegistry.layer)),
        Layer.provide(Layer.provideMerge(BackendConnections.layer, BackendPolicy.layer)),
        Layer.provide(Layer.mergeAll(Resolver.layer, OwnListeners.layer, Timers.layer, TurnBudget.layer)),
        Layer.provide(Layer.mergeAll(Ledger.layerDirect, Metrics.layer, Log.layerSink(new PassThrough()))),
        Layer.provide(NodeFileSystem.layer),
        Layer.provide(Settings.layerFrom({
          host: "127.0.0.1",
          metricsPort: 0,
          metricsCert: Option.some(fixture("localhost")),
          metricsKey: Option.some(fixture("localhost-key")),
          webhookSecret: Option.some(Redacted.make("secret")),
          backends: [Result.getOrThrow(parse("https://pac.example.com", "static"))]
        }))
      )
    ),
    scrape
  )
)

describe("the names of the metrics", () => {
  it("are unique", () => {
    assert.strictEqual(new Set(metricNames).size, metricNames.length)
  })

  it("begin with the program's name, or are the standard ones of the process", () => {
    for (const name of metricNames) assert.match(name, /^(sprayproxy|process|nodejs)(_[a-z0-9]+)+$/)
  })

  it.effect("are those of a scrape, each and no other", () =>
    Effect.gen(function*() {
      const { families } = yield* scrapeOfAll
      const expected = process.platform === "linux" ? metricNames : metricNames.filter((name) => !name.endsWith("_fds"))
      assert.sameMembers(Array.from(families.keys()), Array.from(expected))
      for (const family of families.values()) assert.isNotEmpty(family.samples, family.name)
    }))

  it.effect("say what they count, and in which unit", () =>
    Effect.gen(function*() {
      for (const { help, name, samples, type } of (yield* scrapeOfAll).families.values()) {
        assert.match(help, /^[A-Z0-9].*\.$/, name)
        assert.strictEqual(name.endsWith("_total"), type === "counter", name)
        if (type === "histogram") assert.match(name, /_seconds$/)
        assert.notMatch(name, /_(ms|millis|milliseconds|micros|nanos|kb|kilobytes|percent|minutes|hours)(_|$)/)
        assert.notMatch(name, new RegExp(`_(${type}|counter|gauge)(_|$)`))
        for (const key of samples.keys()) assert.notMatch(key, /\{.*\b(delivery|event|id|path|method)=/, name)
      }
    }))
})
