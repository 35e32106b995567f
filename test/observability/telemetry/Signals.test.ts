import { assert, describe, it } from "@effect/vitest"
import { type Signals, signalsOf } from "../../../src/observability/telemetry/Signals.ts"

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" }
const on = { traces: true, logs: true, metrics: true }
const off = { traces: false, logs: false, metrics: false }

const quietly = (signals: Signals) => ({ signals, warnings: [] })

describe("the signals that are exported", () => {
  it("is off without an endpoint, whatever else is set", () => {
    assert.deepStrictEqual(signalsOf({}), quietly(off))
    assert.deepStrictEqual(signalsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: " " }), quietly(off))
    assert.deepStrictEqual(signalsOf({ OTEL_TRACES_EXPORTER: "otlp", OTEL_SERVICE_NAME: "x" }), quietly(off))
  })

  it("exports every signal to an endpoint", () => {
    assert.deepStrictEqual(signalsOf(endpoint), quietly(on))
    assert.deepStrictEqual(signalsOf({ ...endpoint, OTEL_TRACES_EXPORTER: "otlp" }), quietly(on))
  })

  it("exports only the signal that has an endpoint", () => {
    const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://collector/v1/traces" }
    assert.deepStrictEqual(signalsOf(env), quietly({ ...off, traces: true }))
  })

  it("exports no signal whose exporter is none", () => {
    const env = { ...endpoint, OTEL_LOGS_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" }
    assert.deepStrictEqual(signalsOf(env), quietly({ ...off, traces: true }))
  })

  it("is off when the SDK is disabled, even where another variable is wrong", () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318", OTEL_SDK_DISABLED: "TRUE" }
    assert.deepStrictEqual(signalsOf(env), quietly(off))
    assert.deepStrictEqual(signalsOf({ ...endpoint, OTEL_SDK_DISABLED: "false" }), quietly(on))
  })

  it.each([
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" },
      off,
      `OTEL_EXPORTER_OTLP_ENDPOINT "collector:4318" is no absolute http or https url: nothing is exported (traces, logs, metrics)`
    ],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: "user:hunter2@collector:4318" },
      off,
      `OTEL_EXPORTER_OTLP_ENDPOINT "***@collector:4318" is no absolute http or https url: nothing is exported (traces, logs, metrics)`
    ],
    [
      { ...endpoint, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: "/v1/logs" },
      { ...on, logs: false },
      `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT "/v1/logs" is no absolute http or https url: nothing is exported (logs)`
    ],
    [
      { ...endpoint, OTEL_TRACES_EXPORTER: "zipkin" },
      { ...on, traces: false },
      `OTEL_TRACES_EXPORTER "zipkin": only otlp is done here, not zipkin (traces)`
    ],
    [
      { ...endpoint, OTEL_METRICS_EXPORTER: "otlp, console,Prometheus" },
      on,
      `OTEL_METRICS_EXPORTER "otlp, console,Prometheus": only otlp is done here, not console, prometheus (metrics)`
    ],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4317", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" },
      off,
      `OTEL_EXPORTER_OTLP_PROTOCOL "grpc" is not spoken here, only http/protobuf: nothing is exported (traces, logs, metrics)`
    ],
    [
      { ...endpoint, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "grpc" },
      { ...on, traces: false },
      `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL "grpc" is not spoken here, only http/protobuf: nothing is exported (traces)`
    ],
    [
      { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
      on,
      `OTEL_EXPORTER_OTLP_PROTOCOL "http/json" is sent as http/protobuf (traces, logs, metrics)`
    ],
    [
      { ...endpoint, OTEL_SDK_DISABLED: "1" },
      on,
      `OTEL_SDK_DISABLED "1" is neither true nor false, and by the standard turns nothing off`
    ],
    [
      { ...endpoint, OTEL_PROPAGATORS: "b3,jaeger" },
      on,
      `OTEL_PROPAGATORS "b3,jaeger" is not done here: backends get tracecontext, which is traceparent and tracestate`
    ]
  ])("goes on with what is left of %j, and says what is not done", (env, signals, warning) => {
    assert.deepStrictEqual(signalsOf(env), { signals, warnings: [warning] })
  })

  it("says nothing of what the standard has by default", () => {
    const env = { OTEL_PROPAGATORS: "tracecontext,baggage", OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" }
    assert.deepStrictEqual(signalsOf({ ...endpoint, ...env }), quietly(on))
  })
})
