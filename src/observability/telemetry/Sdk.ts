/**
 * The OpenTelemetry SDK behind `Tracing`, `Log` and Effect's metrics. Only this file imports the files that import the
 * SDK, and `Telemetry` loads this file only when a signal is on.
 *
 * **Details**
 *
 * Nothing waits for a collector. Spans and lines go into queues of bounded length. What does not fit or can't be sent
 * is dropped. The end of the process waits two seconds for what is still queued.
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

/** Exports the signals that are on. The SDK takes all else that it needs from `process.env`. */
export const layer = (signals: Signals): Layer.Layer<Tracing, never, Log | Settings | Instance> =>
  Layer.mergeAll(
    signals.traces ? SdkTracing.layer : Tracing.layerOff,
    signals.logs ? SdkLogs.layer : Layer.empty,
    signals.metrics ? SdkMetrics.layer : Layer.empty
  ).pipe(Layer.provide(layerResource), Layer.provide(layerDiagnostics))

/** The attributes that the environment gives to this process win over its own. */
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

/** A failing export says the same each time, and once a minute is enough. */
const repeatedAfter = 60_000

/** The SDK's own messages go into the log, and never through an exporter, because they may be about it. */
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
