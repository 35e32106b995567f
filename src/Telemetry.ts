/**
 * OpenTelemetry, as the standard `OTEL_*` variables ask for it: traces, logs and metrics over OTLP/HTTP, each of them off
 * unless an endpoint is set.
 *
 * **Details**
 *
 * `OTEL_SDK_DISABLED`, `OTEL_*_EXPORTER`, the endpoints and the protocols are read here, and a value that could only end
 * in exporting nothing stops the start. All others are read by the SDK, which handles a bad value as the specification
 * says: a warning in the log, and the default.
 *
 * Importing the SDK takes as long as everything else together, so that is done only where something is on.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type { Identity } from "./Identity.ts"
import type { Log } from "./Logging.ts"
import { type InvalidSetting, invalidSetting } from "./SettingDefinition.ts"
import type { Environment, Settings } from "./Settings.ts"
import { Tracing } from "./Tracing.ts"

/** What is exported. */
export interface Signals {
  readonly traces: boolean
  readonly logs: boolean
  readonly metrics: boolean
}

type TelemetryLayer = Layer.Layer<Tracing, InvalidSetting, Log | Settings | Identity>

/** Puts a `Log` that exports too over the one it is given, where logs are on. The SDK reads `process.env` itself. */
export const layerFrom = (env: Environment): TelemetryLayer =>
  Layer.unwrap(Effect.gen(function*() {
    const signals = yield* Effect.fromResult(signalsOf(env))
    if (!signals.traces && !signals.logs && !signals.metrics) return Tracing.layerOff
    const sdk = yield* Effect.promise(() => import("./TelemetrySdk.ts"))
    return sdk.layer(signals)
  }))

export const layer: TelemetryLayer = Layer.suspend(() => layerFrom(process.env))

/** What the environment asks for. */
export const signalsOf = (env: Environment): Result.Result<Signals, InvalidSetting> => {
  const disabled = read(env, "OTEL_SDK_DISABLED")?.value.toLowerCase() === "true"
  return Result.all({
    traces: isOn(env, "TRACES", disabled),
    logs: isOn(env, "LOGS", disabled),
    metrics: isOn(env, "METRICS", disabled)
  })
}

interface Variable {
  readonly name: string
  readonly value: string
}

/** The first of the variables that is set. An empty one is an unset one, by the specification too. */
const read = (env: Environment, ...names: ReadonlyArray<string>): Variable | undefined => {
  for (const name of names) {
    const value = env[name]?.trim() ?? ""
    if (value !== "") return { name, value }
  }
  return undefined
}

const isOn = (env: Environment, signal: string, disabled: boolean): Result.Result<boolean, InvalidSetting> => {
  const endpoint = read(env, `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`, "OTEL_EXPORTER_OTLP_ENDPOINT")
  const exporter = read(env, `OTEL_${signal}_EXPORTER`)
  const protocol = read(env, `OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`, "OTEL_EXPORTER_OTLP_PROTOCOL")
  if (disabled || endpoint === undefined || exporter?.value === "none") return Result.succeed(false)
  if (exporter !== undefined && exporter.value !== "otlp") return refuse(exporter, "otlp or none")
  // `collector:4318` is a URL of the scheme `collector`, and the SDK would take it.
  if (!/^https?:\/\/[^/]/i.test(endpoint.value) || !URL.canParse(endpoint.value)) {
    return refuse(endpoint, "an absolute http or https url")
  }
  if (protocol !== undefined && protocol.value !== "http/protobuf") return refuse(protocol, "http/protobuf")
  return Result.succeed(true)
}

const refuse = ({ name, value }: Variable, allowed: string) => Result.fail(invalidSetting(name, { value, allowed }))
