/** A collector that decodes OTLP with protobufjs, which shares no code with the SDK's own writer. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import { buffer } from "node:stream/consumers"
import protobuf from "protobufjs"
import { vi } from "vitest"
import { listen } from "./Backend.ts"

/** The messages of opentelemetry-proto 1.x that the tests look at: names, types and field numbers. */
const schema = protobuf.parse(`
  syntax = "proto3";
  message Traces { repeated ResourceSpans resourceSpans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scopeSpans = 2; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes traceId = 1; bytes spanId = 2; string traceState = 3; bytes parentSpanId = 4; string name = 5; int32 kind = 6;
    fixed64 startTimeUnixNano = 7; fixed64 endTimeUnixNano = 8; repeated KeyValue attributes = 9; Status status = 15;
  }
  message Status { string message = 2; int32 code = 3; }
  message Logs { repeated ResourceLogs resourceLogs = 1; }
  message ResourceLogs { Resource resource = 1; repeated ScopeLogs scopeLogs = 2; }
  message ScopeLogs { repeated LogRecord logRecords = 2; }
  message LogRecord {
    int32 severityNumber = 2; string severityText = 3; AnyValue body = 5; repeated KeyValue attributes = 6;
    bytes traceId = 9; bytes spanId = 10;
  }
  message Metrics { repeated ResourceMetrics resourceMetrics = 1; }
  message ResourceMetrics { Resource resource = 1; repeated ScopeMetrics scopeMetrics = 2; }
  message ScopeMetrics { repeated Metric metrics = 2; }
  message Metric { string name = 1; }
  message Resource { repeated KeyValue attributes = 1; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue {
    oneof value {
      string stringValue = 1; bool boolValue = 2; int64 intValue = 3; double doubleValue = 4; ArrayValue arrayValue = 5;
    }
  }
  message ArrayValue { repeated AnyValue values = 1; }
`).root

type Attributes = Readonly<Record<string, unknown>>

export interface Span {
  readonly traceId: string
  readonly spanId: string
  /** Empty at the root of a trace. */
  readonly parentSpanId: string
  readonly traceState: string
  readonly name: string
  readonly kind: "internal" | "server" | "client"
  readonly attributes: Attributes
  readonly status: "unset" | "ok" | "error"
  readonly resource: Attributes
}

interface LogRecord {
  readonly severity: string
  readonly body: unknown
  readonly attributes: Attributes
  readonly traceId: string
  readonly spanId: string
}

export interface Collector {
  readonly url: string
  readonly spans: ReadonlyArray<Span>
  readonly logs: ReadonlyArray<LogRecord>
  /** The names of the metrics. */
  readonly metrics: ReadonlySet<string>
  /** The heads of all requests, including those that were not answered. */
  readonly requests: ReadonlyArray<{ readonly path: string; readonly headers: Http.IncomingHttpHeaders }>
  readonly spansAtLeast: (count: number) => Promise<unknown>
}

/** Takes what is exported to it. With `answers: false` it never answers. */
export const startCollector = ({ answers = true } = {}): Effect.Effect<Collector, never, Scope.Scope> =>
  Effect.suspend(() => {
    const spans: Array<Span> = []
    const logs: Array<LogRecord> = []
    const metrics = new Set<string>()
    const requests: Array<Collector["requests"][number]> = []
    const take: Record<string, (body: Buffer) => void> = {
      "/v1/traces": (body) => spans.push(...spansOf(decode("Traces", body))),
      "/v1/logs": (body) => logs.push(...logsOf(decode("Logs", body))),
      "/v1/metrics": (body) => namesOf(decode("Metrics", body)).forEach((name) => metrics.add(name))
    }
    const server = Http.createServer(async (request, response) => {
      requests.push({ path: request.url!, headers: request.headers })
      if (!answers) return
      take[request.url!]?.(await buffer(request))
      response.writeHead(200, { "content-type": "application/x-protobuf" }).end()
    })
    return Effect.map(listen(server), (port) => ({
      url: `http://127.0.0.1:${port}`,
      spans,
      logs,
      metrics,
      requests,
      spansAtLeast: (count) => vi.waitUntil(() => spans.length >= count, { timeout: 30_000 })
    }))
  })

/** A decoded message. Absent fields are absent here too. */
interface Message {
  readonly [field: string]: any
}

const decode = (type: string, body: Buffer): Message => {
  const message = schema.lookupType(type)
  return message.toObject(message.decode(body), { longs: Number })
}

const spansOf = ({ resourceSpans = [] }: Message): Array<Span> =>
  resourceSpans.flatMap(({ resource, scopeSpans }: Message) =>
    scopeSpans.flatMap(({ spans }: Message) =>
      spans.map((span: Message): Span => ({
        traceId: hex(span["traceId"]),
        spanId: hex(span["spanId"]),
        parentSpanId: hex(span["parentSpanId"]),
        traceState: span["traceState"] ?? "",
        name: span["name"],
        kind: kinds[span["kind"]]!,
        attributes: attributesOf(span["attributes"]),
        status: statuses[span["status"]?.code ?? 0]!,
        resource: attributesOf(resource.attributes)
      }))
    )
  )

const logsOf = ({ resourceLogs = [] }: Message): Array<LogRecord> =>
  resourceLogs.flatMap(({ scopeLogs }: Message) =>
    scopeLogs.flatMap(({ logRecords }: Message) =>
      logRecords.map((record: Message): LogRecord => ({
        severity: record["severityText"],
        body: valueOf(record["body"]),
        attributes: attributesOf(record["attributes"]),
        traceId: hex(record["traceId"]),
        spanId: hex(record["spanId"])
      }))
    )
  )

const namesOf = ({ resourceMetrics = [] }: Message): Array<string> =>
  resourceMetrics.flatMap(({ scopeMetrics = [] }: Message) =>
    scopeMetrics.flatMap(({ metrics = [] }: Message) => metrics.map(({ name }: Message) => name))
  )

const kinds: Record<number, Span["kind"]> = { 1: "internal", 2: "server", 3: "client" }
const statuses = ["unset", "ok", "error"] as const

const hex = (bytes: Buffer | undefined): string => bytes === undefined ? "" : Buffer.from(bytes).toString("hex")

const valueOf = (value: Message): unknown =>
  "arrayValue" in value ? value["arrayValue"].values.map(valueOf) : Object.values(value)[0]

const attributesOf = (attributes: ReadonlyArray<Message> = []): Attributes =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, valueOf(value)]))
