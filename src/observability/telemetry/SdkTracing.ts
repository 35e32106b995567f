/**
 * Spans of deliveries and of their attempts.
 *
 * **Details**
 *
 * Attributes have the names of the semantic conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/).
 * Queries are left out, because whoever configured the webhook may have put a secret into its URL.
 */
import * as OtelResource from "@effect/opentelemetry/Resource"
import * as Otel from "@opentelemetry/api"
import { W3CTraceContextPropagator } from "@opentelemetry/core"
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto"
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import packageJson from "../../../package.json" with { type: "json" }
import type { AttemptReport } from "../../domain/AttemptReport.ts"
import type { Backend } from "../../domain/Backend.ts"
import type { AttemptTrace, Delivery, DeliveryTrace } from "../../domain/Delivery.ts"
import { portOf } from "../../domain/Origin.ts"
import { pathOf } from "../../domain/RequestTarget.ts"
import { requestIdOf } from "../RequestId.ts"
import { batching, flush } from "./Exporting.ts"
import { Tracing } from "./Tracing.ts"

export const layer = Layer.effect(
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

const endAttempt = (span: Otel.Span, { error, outcome, requests, status }: AttemptReport): void => {
  span.setAttribute("sprayproxy.outcome", outcome)
  if (status !== undefined) span.setAttribute("http.response.status_code", status)
  if (requests > 1) span.setAttribute("http.request.resend_count", requests - 1)
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
    const url = new URL(backend.origin)
    server = { address: url.hostname, port: portOf(url) }
    servers.set(backend, server)
  }
  return server
}
