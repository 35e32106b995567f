/**
 * The OpenTelemetry SDK behind `Tracing`, `Log` and Effect's metrics. Only this file imports those that import it, and `Telemetry`
 * loads this one only when it is wanted.
 *
 * **Details**
 *
 * Nothing waits for a collector: what has ended goes into queues of bounded length, whatever does not fit or can't be sent
 * is dropped, and the end of the process waits two seconds for what is still queued.
 */
import * as OtelResource from "@effect/opentelemetry/Resource"
import * as Otel from "@opentelemetry/api"
import { setGlobalErrorHandler } from "@opentelemetry/core"
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import packageJson from "../../../package.json" with { type: "json" }
import { Instance } from "../../runtime/Instance.ts"
import type { Settings } from "../../settings/Settings.ts"
import { Log } from "../logs/Logging.ts"
import * as SdkLogs from "./SdkLogs.ts"
import * as SdkMetrics from "./SdkMetrics.ts"
import * as SdkTracing from "./SdkTracing.ts"
import type { Signals } from "./Signals.ts"
import { Tracing } from "./Tracing.ts"

/** Exports what `signals` says, as `process.env` says. */
export const layer = (signals: Signals): Layer.Layer<Tracing, never, Log | Settings | Instance> =>
  Layer.mergeAll(
    signals.traces ? SdkTracing.layer : Tracing.layerOff,
    signals.logs ? SdkLogs.layer : Layer.empty,
    signals.metrics ? SdkMetrics.layer : Layer.empty
  ).pipe(Layer.provide(layerResource), Layer.provide(layerDiagnostics))

/** What the environment says of this process wins over what it says itself. */
const layerResource = Layer.effect(
  OtelResource.Resource,
  Effect.map(Instance, ({ name: instance }) =>
    defaultResource()
      .merge(resourceFromAttributes({
        "service.name": packageJson.name,
        "service.version": packageJson.version,
        "service.instance.id": instance
      }))
      .merge(detectResources({ detectors: [envDetector] })))
)

/** A failing export says the same each time: once a minute is enough. */
const repeatedAfter = 60_000

/** What the SDK has to say goes into the log, and never through the exporter that it may be about. */
const layerDiagnostics = Layer.effectDiscard(Effect.gen(function*() {
  const log = yield* Log
  const saidAt = new Map<string, number>()
  const warn = (message: string) => {
    const kind = message.replaceAll(/\d+/g, "0")
    const at = performance.now()
    if (at - (saidAt.get(kind) ?? -Infinity) < repeatedAfter) return
    if (saidAt.size >= 100) saidAt.clear()
    saidAt.set(kind, at)
    log.write("warn", "telemetry", { error: message })
  }
  const logger: Otel.DiagLogger = { error: warn, warn, info: quiet, debug: quiet, verbose: quiet }
  Otel.diag.setLogger(logger, { logLevel: Otel.DiagLogLevel.WARN, suppressOverrideMessage: true })
  setGlobalErrorHandler((error) => warn(describe(error)))
  yield* Effect.addFinalizer(() => Effect.sync(() => Otel.diag.disable()))
}))

const quiet = () => {}

const describe = (error: unknown): string => {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown }
  return `export failed: ${String(message || code || error)}`
}
