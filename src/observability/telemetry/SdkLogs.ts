/** Exports log lines beside writing them. */
import * as OtelLogger from "@effect/opentelemetry/OtelLogger"
import * as OtelResource from "@effect/opentelemetry/Resource"
import * as Otel from "@opentelemetry/api"
import { SeverityNumber } from "@opentelemetry/api-logs"
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-proto"
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import packageJson from "../../../package.json" with { type: "json" }
import type { LogFields, LogLevel } from "../../domain/LogEntry.ts"
import { Settings } from "../../settings/Settings.ts"
import { isLogged, Log } from "../logs/Logging.ts"
import { batching, flush } from "./Exporting.ts"

const severities: Record<LogLevel, SeverityNumber> = {
  debug: SeverityNumber.DEBUG,
  info: SeverityNumber.INFO,
  warn: SeverityNumber.WARN,
  error: SeverityNumber.ERROR
}

const loggerProvider = Effect.gen(function*() {
  const resource = yield* OtelResource.Resource
  return yield* Effect.acquireRelease(
    Effect.sync(() =>
      new LoggerProvider({
        resource,
        processors: [
          new BatchLogRecordProcessor({
            exporter: new OTLPLogExporter(),
            ...batching("OTEL_BLRP", 1_000)
          })
        ]
      })
    ),
    flush
  )
})

/** A `Log` that exports each line beside writing it. The lines of Effect's own logger are exported too. */
export const layer = Layer.merge(
  Layer.effect(
    Log,
    Effect.gen(function*() {
      const log = yield* Log
      const { logLevel } = yield* Settings
      const logger = (yield* OtelLogger.OtelLoggerProvider).getLogger(packageJson.name, packageJson.version)
      return Log.of({
        write: (level, message, fields, shared, json) => {
          log.write(level, message, fields, shared, json)
          if (!isLogged(level, logLevel)) return
          logger.emit({
            severityNumber: severities[level],
            severityText: level,
            body: message,
            ...contextual({ ...shared?.fields, ...fields })
          })
        }
      })
    })
  ),
  OtelLogger.layer({ mergeWithExisting: true })
).pipe(Layer.provide(Layer.effect(OtelLogger.OtelLoggerProvider, loggerProvider)))

const contextual = ({ span_id: spanId, trace_id: traceId, ...fields }: LogFields) => {
  const attributes = { ...fields, query: undefined }
  if (typeof traceId !== "string" || typeof spanId !== "string") return { attributes }
  const traceFlags = Otel.TraceFlags.SAMPLED
  return { attributes, context: Otel.trace.setSpanContext(Otel.ROOT_CONTEXT, { traceId, spanId, traceFlags }) }
}
