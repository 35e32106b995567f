/**
 * Which of OpenTelemetry's signals the standard `OTEL_*` variables ask for: traces, logs and metrics. Each is off
 * unless an endpoint is set.
 *
 * **Details**
 *
 * `OTEL_SDK_DISABLED`, `OTEL_*_EXPORTER`, `OTEL_PROPAGATORS`, the endpoints and the protocols are read here. The SDK
 * reads all others. No variable ends the start, as the specification wants it, because a platform may set them for
 * everything that runs on it. A variable that can't be read, or asks for something that is not done here, gets a
 * warning, and the rest goes on. https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
import { withoutSecrets } from "../../domain/Backend.ts"
import { quote } from "../../domain/Text.ts"
import type { Environment } from "../../settings/Variables.ts"

/** The signals that are exported. */
export interface Signals {
  readonly traces: boolean
  readonly logs: boolean
  readonly metrics: boolean
}

/**
 * The signals that the environment asks for, and one line for each variable that asks for something that is not done
 * here.
 */
export const signalsOf = (
  env: Environment
): { readonly signals: Signals; readonly warnings: ReadonlyArray<string> } => {
  const disabled = read(env, "OTEL_SDK_DISABLED")
  const isDisabled = disabled?.value.toLowerCase() === "true"
  const complaints = new Map<string, Array<string>>()
  const complain = (signal: string) => (text: string) => {
    complaints.set(text, [...complaints.get(text) ?? [], signal])
  }
  const signals = {
    traces: !isDisabled && isOn(env, "TRACES", complain("traces")),
    logs: !isDisabled && isOn(env, "LOGS", complain("logs")),
    metrics: !isDisabled && isOn(env, "METRICS", complain("metrics"))
  }
  const isAnyOn = signals.traces || signals.logs || signals.metrics
  const propagators = read(env, "OTEL_PROPAGATORS")
  return {
    signals,
    warnings: [
      ...Array.from(complaints, ([text, concerned]) => `${text} (${concerned.join(", ")})`),
      ...(isAnyOn && disabled !== undefined && disabled.value.toLowerCase() !== "false"
        ? [`${shown(disabled)} is neither true nor false, and by the standard turns nothing off`]
        : []),
      ...(signals.traces && propagators !== undefined && !listOf(propagators).includes("tracecontext")
        ? [`${shown(propagators)} is not done here: backends get tracecontext, which is traceparent and tracestate`]
        : [])
    ]
  }
}

interface Variable {
  readonly name: string
  readonly value: string
}

/** The first of the variables that is set. An empty one is an unset one, in the specification too. */
const read = (env: Environment, ...names: ReadonlyArray<string>): Variable | undefined => {
  for (const name of names) {
    const value = env[name]?.trim() ?? ""
    if (value !== "") return { name, value }
  }
  return undefined
}

const shown = ({ name, value }: Variable): string => `${name} ${quote(withoutSecrets(value).slice(0, 256))}`

const listOf = ({ value }: Variable): ReadonlyArray<string> =>
  value.toLowerCase().split(",").map((word) => word.trim()).filter((word) => word !== "")

const isOn = (env: Environment, signal: string, complain: (text: string) => void): boolean => {
  const endpoint = read(env, `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`, "OTEL_EXPORTER_OTLP_ENDPOINT")
  if (endpoint === undefined) return false
  const exporter = read(env, `OTEL_${signal}_EXPORTER`)
  const exporters = exporter === undefined ? ["otlp"] : listOf(exporter)
  const others = exporters.filter((one) => one !== "otlp" && one !== "none")
  if (exporter !== undefined && others.length > 0) {
    complain(`${shown(exporter)}: only otlp is done here, not ${others.join(", ")}`)
  }
  if (!exporters.includes("otlp")) return false
  const protocol = read(env, `OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`, "OTEL_EXPORTER_OTLP_PROTOCOL")
  const spoken = protocol?.value.toLowerCase() ?? "http/protobuf"
  // A collector takes http/json and http/protobuf on one port.
  // https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
  if (protocol !== undefined && spoken === "http/json") complain(`${shown(protocol)} is sent as http/protobuf`)
  else if (protocol !== undefined && spoken !== "http/protobuf") {
    complain(`${shown(protocol)} is not spoken here, only http/protobuf: nothing is exported`)
    return false
  }
  // `collector:4318` is a URL of the scheme `collector`, and the SDK would take it.
  if (/^https?:\/\/[^/]/i.test(endpoint.value) && URL.canParse(endpoint.value)) return true
  complain(`${shown(endpoint)} is no absolute http or https url: nothing is exported`)
  return false
}
