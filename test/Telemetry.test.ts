import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import { vi } from "vitest"
import { Identity } from "../src/Identity.ts"
import { Log } from "../src/Logging.ts"
import { Settings } from "../src/Settings.ts"
import { layerFrom, signalsOf } from "../src/Telemetry.ts"
import { startCollector } from "./e2e/otlp.ts"

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" }
const on = { traces: true, logs: true, metrics: true }
const off = { traces: false, logs: false, metrics: false }

const refusalOf = (env: Record<string, string>) => {
  const result = signalsOf(env)
  assert.isTrue(Result.isFailure(result))
  return Result.isFailure(result) ? result.failure.message : ""
}

describe("Telemetry", () => {
  it("is off without an endpoint, whatever else is set", () => {
    assert.deepStrictEqual(signalsOf({}), Result.succeed(off))
    assert.deepStrictEqual(signalsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: " " }), Result.succeed(off))
    assert.deepStrictEqual(signalsOf({ OTEL_TRACES_EXPORTER: "otlp", OTEL_SERVICE_NAME: "x" }), Result.succeed(off))
  })

  it("exports every signal to an endpoint", () => {
    assert.deepStrictEqual(signalsOf(endpoint), Result.succeed(on))
    assert.deepStrictEqual(signalsOf({ ...endpoint, OTEL_TRACES_EXPORTER: "otlp" }), Result.succeed(on))
  })

  it("exports only the signal that has an endpoint", () => {
    const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://collector/v1/traces" }
    assert.deepStrictEqual(signalsOf(env), Result.succeed({ ...off, traces: true }))
  })

  it("exports no signal whose exporter is none", () => {
    const env = { ...endpoint, OTEL_LOGS_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" }
    assert.deepStrictEqual(signalsOf(env), Result.succeed({ ...off, traces: true }))
  })

  it("is off when the SDK is disabled, even where another variable is wrong", () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318", OTEL_SDK_DISABLED: "TRUE" }
    assert.deepStrictEqual(signalsOf(env), Result.succeed(off))
    assert.deepStrictEqual(signalsOf({ ...endpoint, OTEL_SDK_DISABLED: "1" }), Result.succeed(on))
  })

  it.each([
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" },
      `invalid OTEL_EXPORTER_OTLP_ENDPOINT "collector:4318": an absolute http or https url`
    ],
    [
      { ...endpoint, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: "/v1/logs" },
      `invalid OTEL_EXPORTER_OTLP_LOGS_ENDPOINT "/v1/logs": an absolute http or https url`
    ],
    [
      { ...endpoint, OTEL_TRACES_EXPORTER: "zipkin" },
      `invalid OTEL_TRACES_EXPORTER "zipkin": otlp or none`
    ],
    [
      { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" },
      `invalid OTEL_EXPORTER_OTLP_PROTOCOL "grpc": http/protobuf`
    ]
  ])("refuses what could only end in exporting nothing: %j", (env, message) => {
    assert.strictEqual(refusalOf(env), message)
  })

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
      Effect.provide(Layer.mergeAll(Log.layerTest, Identity.layer, Settings.layerFrom({})))
    ))
})
