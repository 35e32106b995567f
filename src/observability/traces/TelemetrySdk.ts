/**
 * The OpenTelemetry SDK behind `Tracing`, `Log` and Effect's metrics. The one file that imports it: `Telemetry` loads it
 * only when it is wanted.
 *
 * **Details**
 *
 * Nothing waits for a collector: what has ended goes into queues of bounded length, whatever does not fit or can't be sent
 * is dropped, and the end of the process waits two seconds for what is still queued.
 *
 * Attributes have the names of the semantic conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/).
 * Queries are left out: whoever configured the webhook may have put a secret into its URL.
 */
import * as OtelLogger from "@effect/opentelemetry/OtelLogger"
import * as OtelMetrics from "@effect/opentelemetry/OtelMetrics"
import * as OtelResource from "@effect/opentelemetry/Resource"
import * as Otel from "@opentelemetry/api"
import { SeverityNumber } from "@opentelemetry/api-logs"
import { getNumberFromEnv, setGlobalErrorHandler, W3CTraceContextPropagator } from "@opentelemetry/core"
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-proto"
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto"
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto"
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources"
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs"
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics"
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import packageJson from "../../../package.json" with { type: "json" }
import type { AttemptReport } from "../../domain/AttemptReport.ts"
import type { Backend } from "../../domain/Backend.ts"
import type { AttemptTrace, Delivery, DeliveryTrace } from "../../domain/Delivery.ts"
import type { LogFields, LogLevel } from "../../domain/LogEntry.ts"
import { pathOf } from "../../domain/RequestTarget.ts"
import { Instance } from "../../runtime/Instance.ts"
import { Settings } from "../../settings/Settings.ts"
import { requestIdOf } from "../RequestId.ts"
import { isLogged, Log } from "../logs/Logging.ts"
import type { Signals } from "./Signals.ts"
import { Tracing } from "./Tracing.ts"

/** Exports what `signals` says, as `process.env` says. */
export const layer = (signals: Signals): Layer.Layer<Tracing, never, Log | Settings | Instance> =>
  Layer.mergeAll(
    signals.traces ? layerTracing : Tracing.layerOff,
    signals.logs ? layerLogging : Layer.empty,
    signals.metrics ? layerMetrics : Layer.empty
  ).pipe(Layer.provide(layerResource), Layer.provide(layerDiagnostics))

/** Added to the grace of the shutdown, it has to stay within the 30 s after which Kubernetes kills. */
const flushTimeout = "2 seconds"

/** A collector that refuses what is left must not turn a clean end into a failure. */
const flush = (provider: { readonly shutdown: () => Promise<void> }) =>
  Effect.promise(() => provider.shutdown()).pipe(
    Effect.ignoreCause,
    Effect.interruptible,
    Effect.timeoutOption(flushTimeout)
  )

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

const layerTracing = Layer.effect(
  Tracing,
  Effect.gen(function*() {
    const resource = yield* OtelResource.Resource
    const provider = yield* Effect.acquireRelease(
      Effect.sync(() =>
        new BasicTracerProvider({
          resource,
          spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(), batching("OTEL_BSP", 5_000))]
        })
      ),
      flush
    )
    const tracer = provider.getTracer(packageJson.name, packageJson.version)
    const traces = new WeakMap<ServerResponse, SdkDeliveryTrace>()
    return Tracing.of({
      begin: (request, response) => {
        const trace = new SdkDeliveryTrace(tracer, request, response)
        traces.set(response, trace)
        return trace
      },
      refused: (response, reason) => traces.get(response)?.refused(reason)
    })
  })
)

const traceContext = new W3CTraceContextPropagator()

class SdkDeliveryTrace implements DeliveryTrace {
  readonly traceId: string
  readonly spanId: string
  readonly #tracer: Otel.Tracer
  readonly #span: Otel.Span
  readonly #context: Otel.Context
  readonly #github: Otel.Attributes
  readonly #isInbound: boolean
  #verification: Otel.Span | undefined
  #headers: ReadonlyArray<string> | undefined

  constructor(tracer: Otel.Tracer, request: IncomingMessage, response: ServerResponse) {
    const { headers, httpVersion, method = "", url = "" } = request
    const route = pathOf(url)
    this.#tracer = tracer
    this.#isInbound = headers["traceparent"] !== undefined || headers["tracestate"] !== undefined
    this.#github = {
      "github.delivery": headers["x-github-delivery"],
      "github.event": headers["x-github-event"]
    }
    const parent = traceContext.extract(Otel.ROOT_CONTEXT, headers, Otel.defaultTextMapGetter)
    const attributes: Otel.Attributes = {
      ...this.#github,
      "http.request.method": method,
      "http.route": route,
      "url.path": route,
      "url.scheme": "http",
      "server.address": headers.host?.replace(/:\d+$/, ""),
      "server.port": request.socket.localPort,
      "network.protocol.version": httpVersion,
      "user_agent.original": headers["user-agent"],
      "http.response.header.x-request-id": [requestIdOf(response)]
    }
    this.#span = tracer.startSpan(`${method} ${route}`, { kind: Otel.SpanKind.SERVER, attributes }, parent)
    this.#context = Otel.trace.setSpan(parent, this.#span)
    const { spanId, traceId } = this.#span.spanContext()
    this.traceId = traceId
    this.spanId = spanId
    response.once("close", () => this.#end(response))
  }

  verifying(): void {
    this.#verification = this.#tracer.startSpan("verify", {}, this.#context)
  }

  verified(matches: boolean): void {
    if (!matches) return
    this.#verification?.end()
    this.#verification = undefined
  }

  refused(reason: string): void {
    this.#span.setAttribute("sprayproxy.refusal", reason)
    this.#endVerification(reason)
  }

  attempt(backend: Backend, delivery: Delivery): AttemptTrace {
    const { address, port } = serverOf(backend)
    const attributes: Otel.Attributes = {
      ...this.#github,
      "http.request.method": delivery.method,
      "url.full": backend.origin + backend.basePath + pathOf(delivery.forwardedTarget),
      "server.address": address,
      "server.port": port,
      "network.protocol.version": "1.1"
    }
    const span = this.#tracer.startSpan(delivery.method, { kind: Otel.SpanKind.CLIENT, attributes }, this.#context)
    this.#headers ??= this.#isInbound ? withoutTraceContext(delivery.headers) : delivery.headers
    const headers = [...this.#headers]
    traceContext.inject(Otel.trace.setSpan(this.#context, span), headers, headerSetter)
    return { headers, end: (report) => endAttempt(span, report) }
  }

  #endVerification(error: string): void {
    this.#verification?.setAttribute("error.type", error).setStatus({ code: Otel.SpanStatusCode.ERROR }).end()
    this.#verification = undefined
  }

  #end(response: ServerResponse): void {
    this.#endVerification("client disconnected")
    if (response.writableFinished) {
      const { statusCode } = response
      this.#span.setAttribute("http.response.status_code", statusCode)
      // A 4xx is the sender's error, not ours: the conventions leave its status unset.
      if (statusCode >= 500) fail(this.#span, String(statusCode))
    } else {
      fail(this.#span, "client disconnected")
    }
    this.#span.end()
  }
}

const fail = (span: Otel.Span, type: string, message?: string): void => {
  span.setAttribute("error.type", type)
  span.setStatus({ code: Otel.SpanStatusCode.ERROR, ...(message === undefined ? {} : { message }) })
}

const endAttempt = (span: Otel.Span, { error, outcome, status, tries }: AttemptReport): void => {
  span.setAttribute("sprayproxy.outcome", outcome)
  if (status !== undefined) span.setAttribute("http.response.status_code", status)
  if (tries > 1) span.setAttribute("http.request.resend_count", tries - 1)
  if (outcome !== "delivered") fail(span, status === undefined ? outcome : String(status), error)
  span.end()
}

const isTraceContext = (name: string): boolean => /^trace(?:parent|state)$/i.test(name)

const withoutTraceContext = (headers: ReadonlyArray<string>): ReadonlyArray<string> =>
  headers.filter((_, i) => !isTraceContext(headers[i & ~1]!))

const headerSetter: Otel.TextMapSetter<Array<string>> = {
  set: (headers, name, value) => void headers.push(name, value)
}

interface ServerAddress {
  readonly address: string
  readonly port: number
}

const servers = new WeakMap<Backend, ServerAddress>()

const serverOf = (backend: Backend): ServerAddress => {
  let server = servers.get(backend)
  if (server === undefined) {
    const { hostname, port, protocol } = new URL(backend.origin)
    server = { address: hostname, port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port) }
    servers.set(backend, server)
  }
  return server
}

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

/** A `Log` that exports each line beside writing it, and the same for what Effect's own logger has to say. */
const layerLogging = Layer.merge(
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

/** The service's metrics are in Effect's registry, which is all that this needs to know of them. */
const layerMetrics = OtelMetrics.layer(() => {
  const exportIntervalMillis = positive("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
  return new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter(),
    exportIntervalMillis,
    // The reader throws where it is longer.
    exportTimeoutMillis: Math.min(positive("OTEL_METRIC_EXPORT_TIMEOUT", 30_000), exportIntervalMillis)
  })
}, { shutdownTimeout: flushTimeout })

/** The SDK takes some of these as they come: a queue for nothing, a delay of no time. */
const batching = (prefix: string, scheduledDelay: number) => ({
  maxQueueSize: positive(`${prefix}_MAX_QUEUE_SIZE`, 2_048),
  maxExportBatchSize: positive(`${prefix}_MAX_EXPORT_BATCH_SIZE`, 512),
  scheduledDelayMillis: positive(`${prefix}_SCHEDULE_DELAY`, scheduledDelay),
  exportTimeoutMillis: positive(`${prefix}_EXPORT_TIMEOUT`, 30_000)
})

// Node lets a longer timer fire at once.
const largest = 2 ** 31 - 1

const positive = (variable: string, fallback: number): number => {
  const value = getNumberFromEnv(variable) ?? fallback
  if (value > 0 && value <= largest) return value
  Otel.diag.warn(`${variable} is not between 1 and ${largest}, using the default`)
  return fallback
}
