import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { vi } from "vitest"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { layerFrom } from "../../../src/observability/telemetry/Telemetry.ts"
import { Instance } from "../../../src/runtime/Instance.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { startCollector } from "../../support/otlp.ts"

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" }

describe("Telemetry", () => {
  it.effect("warns and starts without telemetry where nothing is left", () =>
    Effect.gen(function*() {
      yield* Layer.build(layerFrom({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }))
      const { entries } = yield* LogEntries
      assert.deepStrictEqual(entries.map(({ level }) => level), ["warn"])
      assert.match(entries[0]!.message, /^OTEL_EXPORTER_OTLP_PROTOCOL/)
    }).pipe(Effect.provide(Layer.mergeAll(Log.layerTest, Instance.layer, Settings.layerFrom({})))))

  it.effect("exports Effect's metrics", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const env = { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${collector.url}/v1/metrics` }
      vi.stubEnv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT)
      yield* Metric.update(Metric.counter("telemetry_test_total"), 1)
      yield* Effect.scoped(Layer.build(layerFrom(env)))
      assert.isTrue(collector.metrics.has("telemetry_test_total"))
    }).pipe(
      Effect.ensuring(Effect.sync(() => vi.unstubAllEnvs())),
      Effect.provide(Layer.mergeAll(Log.layerTest, Instance.layer, Settings.layerFrom({})))
    ))
})
