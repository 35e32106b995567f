import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { vi } from "vitest"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, githubHeaders, send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { type Collector, type Span, startCollector } from "../../support/otlp.ts"

/** Settings by which everything is exported soon. */
const exportingTo = (url: string) => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_BSP_SCHEDULE_DELAY: "50",
  OTEL_BLRP_SCHEDULE_DELAY: "50",
  OTEL_METRIC_EXPORT_INTERVAL: "100"
})

const to = (...backends: ReadonlyArray<TestBackend>) => backends.flatMap(({ url }) => ["--backend", url])

const named = ({ spans }: Collector, name: string): Span => {
  const found = spans.filter((span) => span.name === name)
  assert.lengthOf(found, 1, name)
  return found[0]!
}

const inboundTraceId = "0af7651916cd43dd8448eb211c80319c"
const inboundSpanId = "b7ad6b7169203331"
const traceContext = (flags: string) => ({
  traceparent: `00-${inboundTraceId}-${inboundSpanId}-${flags}`,
  tracestate: "congo=t61rcWkgMzE"
})

/** The SDK leaves its API's global behind: said when the process ends. */
const tellsWhetherSdkRan = `process.on("exit", () => {
  const ran = Object.getOwnPropertySymbols(globalThis).some((symbol) => String(symbol).includes("opentelemetry"))
  process.stderr.write("SDK ran: " + ran)
})`

const nowhere = "http://127.0.0.1:1"

describe("telemetry", () => {
  it.effect("makes one trace of a delivery to three backends, each of which is told its own span", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const backends = [
        yield* startBackend(),
        yield* startBackend(),
        yield* startBackend((_, response) => void response.writeHead(500).end("no"))
      ]
      const program = yield* startProgram(to(...backends), exportingTo(collector.url))
      const reply = yield* Effect.promise(() => deliver(program.port, `{"zen":1}`, { path: "/proxy?token=hush" }))
      yield* Effect.promise(() => collector.spansAtLeast(5))

      const server = named(collector, "POST /proxy")
      const verification = named(collector, "verify")
      const clients = collector.spans.filter(({ kind }) => kind === "client")
      assert.strictEqual(server.kind, "server")
      assert.strictEqual(server.parentSpanId, "")
      assert.strictEqual(server.status, "error")
      const guid = backends[0]!.received[0]!.headers["x-github-delivery"]
      assert.include(server.attributes, {
        "http.request.method": "POST",
        "http.response.status_code": 502,
        "http.route": "/proxy",
        "url.path": "/proxy",
        "error.type": "502",
        "server.address": "127.0.0.1",
        "server.port": program.port,
        "network.protocol.version": "1.1",
        "github.delivery": guid,
        "github.event": "push"
      })
      assert.deepStrictEqual(server.attributes["http.response.header.x-request-id"], [reply.headers["x-request-id"]])
      assert.strictEqual(verification.parentSpanId, server.spanId)
      assert.strictEqual(verification.status, "unset")
      assert.lengthOf(clients, 3)
      for (const backend of backends) {
        const client = clients.find(({ attributes }) => attributes["server.port"] === backend.port)!
        assert.strictEqual(client.parentSpanId, server.spanId)
        assert.strictEqual(client.traceId, server.traceId)
        const fails = backend === backends[2]
        assert.strictEqual(client.status, fails ? "error" : "unset")
        assert.include(client.attributes, {
          "http.request.method": "POST",
          "http.response.status_code": fails ? 500 : 202,
          "server.address": "127.0.0.1",
          "network.protocol.version": "1.1",
          "url.full": `${backend.url}/`,
          "github.delivery": guid,
          "github.event": "push"
        })
        const { headers } = backend.received[0]!
        assert.strictEqual(headers["traceparent"], `00-${server.traceId}-${client.spanId}-01`)
        assert.notProperty(headers, "tracestate")
        assert.notProperty(headers, "b3")
      }
      assert.include(server.resource, { "service.name": "sprayproxy", "telemetry.sdk.language": "nodejs" })
      assert.notInclude(JSON.stringify(collector.spans), "hush")
    }))

  it.effect("goes on with the trace that a delivery comes with", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const backend = yield* startBackend()
      const program = yield* startProgram(to(backend), exportingTo(collector.url))
      yield* Effect.promise(() => deliver(program.port, "{}", { headers: traceContext("01") }))
      yield* Effect.promise(() => collector.spansAtLeast(3))

      const server = named(collector, "POST /proxy")
      assert.strictEqual(server.traceId, inboundTraceId)
      assert.strictEqual(server.parentSpanId, inboundSpanId)
      const client = collector.spans.find(({ kind }) => kind === "client")
      const { rawHeaders } = backend.received[0]!
      const ofTrace = rawHeaders.flatMap((name, i) =>
        /^trace/i.test(name) && i % 2 === 0 ? [name, rawHeaders[i + 1]] : []
      )
      assert.deepStrictEqual(ofTrace, [
        "traceparent",
        `00-${inboundTraceId}-${client!.spanId}-01`,
        "tracestate",
        "congo=t61rcWkgMzE"
      ])
    }))

  it.effect("exports nothing of a trace that is not sampled, and says so to the backends", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const backend = yield* startBackend()
      const program = yield* startProgram(to(backend), exportingTo(collector.url))
      yield* Effect.promise(() => deliver(program.port, "{}", { headers: traceContext("00") }))
      yield* Effect.promise(() => deliver(program.port, "{}", { headers: { "x-mark": "sampled" } }))
      yield* Effect.promise(() => collector.spansAtLeast(3))
      assert.notInclude(collector.spans.map(({ traceId }) => traceId), inboundTraceId)
      const { traceparent } = backend.received[0]!.headers
      assert.match(String(traceparent), new RegExp(`^00-${inboundTraceId}-(?!${inboundSpanId})[0-9a-f]{16}-00$`))
    }))

  it.effect("names the reason of a refusal, and traces no attempt", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const program = yield* startProgram(["--backend", nowhere], exportingTo(collector.url))
      const forged = yield* Effect.promise(() => githubHeaders("another body"))
      yield* Effect.promise(() => send(program.port, { body: "{}", headers: forged }))
      yield* Effect.promise(() => collector.spansAtLeast(2))
      const server = named(collector, "POST /proxy")
      assert.include(server.attributes, {
        "http.response.status_code": 400,
        "sprayproxy.refusal": "signature mismatch"
      })
      assert.strictEqual(server.status, "unset")
      assert.include(named(collector, "verify").attributes, { "error.type": "signature mismatch" })
      assert.lengthOf(collector.spans, 2)
    }))

  it.effect("exports log lines with the ids of the trace that they belong to", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const backend = yield* startBackend()
      const program = yield* startProgram(to(backend), exportingTo(collector.url))
      yield* Effect.promise(() => deliver(program.port, "{}", { path: "/proxy?token=hush" }))
      yield* Effect.promise(() => collector.spansAtLeast(3))
      const answered = () => collector.logs.find(({ body }) => body === "delivery answered")
      yield* Effect.promise(() => vi.waitUntil(answered, { timeout: 30_000 }))
      const server = named(collector, "POST /proxy")
      assert.include(answered(), { severity: "info", traceId: server.traceId, spanId: server.spanId })
      assert.include(answered()!.attributes, { event: "push", status: 200, outcome: "proxied" })
      assert.notInclude(JSON.stringify(collector.logs), "hush")
      const written = yield* Effect.promise(() => program.logged(({ msg }) => msg === "delivery answered"))
      assert.include(written, { trace_id: server.traceId, span_id: server.spanId })
    }))

  it.effect("takes headers, name and attributes from the environment", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const backend = yield* startBackend()
      const program = yield* startProgram(to(backend), {
        ...exportingTo(nowhere),
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/v1/traces`,
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20abc",
        OTEL_LOGS_EXPORTER: "none",
        OTEL_METRICS_EXPORTER: "none",
        OTEL_SERVICE_NAME: "hooks",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=stage"
      })
      yield* Effect.promise(() => deliver(program.port, "{}"))
      yield* Effect.promise(() => collector.spansAtLeast(3))
      assert.include(collector.spans[0]!.resource, { "service.name": "hooks", "deployment.environment.name": "stage" })
      assert.strictEqual(collector.requests[0]!.headers.authorization, "Bearer abc")
      assert.deepStrictEqual([...new Set(collector.requests.map(({ path }) => path))], ["/v1/traces"])
    }))

  for (
    const [what, env] of [
      ["without an endpoint", () => ({})],
      ["with OTEL_SDK_DISABLED", (url: string) => ({ ...exportingTo(url), OTEL_SDK_DISABLED: "true" })]
    ] as const
  ) {
    it.effect(`is off ${what}: no SDK is loaded, no connection made, no header touched`, () =>
      Effect.gen(function*() {
        const collector = yield* startCollector()
        const backend = yield* startBackend()
        const loaded = "data:text/javascript," + encodeURIComponent(tellsWhetherSdkRan)
        const program = yield* startProgram(to(backend), {
          ...env(collector.url),
          NODE_OPTIONS: `--import=${loaded}`
        })
        yield* Effect.promise(() => deliver(program.port, "{}", { headers: traceContext("01") }))
        yield* Effect.promise(() => deliver(program.port, "{}"))
        assert.include(backend.received[0]!.headers, traceContext("01"))
        assert.notProperty(backend.received[1]!.headers, "traceparent")
        program.process.kill("SIGTERM")
        assert.strictEqual(yield* Effect.promise(() => program.exit), 0)
        assert.include(program.stderr(), "SDK ran: false")
        assert.lengthOf(collector.requests, 0)
        assert.notProperty(program.logs.find(({ msg }) => msg === "delivery answered"), "trace_id")
      }))
  }

  for (const what of ["hangs", "refuses"]) {
    it.effect(`answers as fast, and ends in time, while the collector ${what}`, () =>
      Effect.gen(function*() {
        const collector = yield* startCollector({ answers: false })
        const backend = yield* startBackend()
        const program = yield* startProgram(to(backend), exportingTo(what === "hangs" ? collector.url : nowhere))
        const startedAt = performance.now()
        for (let i = 0; i < 200; i++) {
          const { status } = yield* Effect.promise(() => deliver(program.port, "{}"))
          assert.strictEqual(status, 200)
        }
        // The time of a busy machine; each waits for no export, which ends after seconds.
        assert.isBelow(performance.now() - startedAt, 30_000)
        if (what === "hangs") yield* Effect.promise(() => vi.waitUntil(() => collector.requests.length > 0))
        const stoppedAt = performance.now()
        program.process.kill("SIGTERM")
        assert.strictEqual(yield* Effect.promise(() => program.exit), 0)
        assert.isBelow(performance.now() - stoppedAt, 4_000)
      }))
  }

  it.effect("warns of a bad value that the specification has a default for", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const program = yield* startProgram([], { ...exportingTo(collector.url), OTEL_TRACES_SAMPLER: "sometimes" })
      const warning = yield* Effect.promise(() => program.logged(({ msg }) => msg === "telemetry"))
      assert.include(String(warning["error"]), "sometimes")
      assert.strictEqual(warning.level, "warn")
    }))

  it.effect("starts and forwards whatever of the standard it does not do, and says so", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(to(backend), {
        OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4317",
        OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
        OTEL_TRACES_EXPORTER: "otlp,console"
      })
      assert.strictEqual((yield* Effect.promise(() => deliver(program.port, "{}"))).status, 200)
      const said = program.logs.flatMap(({ level, msg }) => level === "warn" && msg.startsWith("OTEL_") ? [msg] : [])
      assert.deepStrictEqual(said, [
        `OTEL_TRACES_EXPORTER "otlp,console": only otlp is done here, not console (traces)`,
        `OTEL_EXPORTER_OTLP_PROTOCOL "grpc" is not spoken here, only http/protobuf: nothing is exported (traces, logs, metrics)`
      ])
    }))

  it.effect("takes the defaults for times and queues that could not work", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const variables = ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY"]
      const program = yield* startProgram([], {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_BSP_MAX_QUEUE_SIZE: "0",
        ...Object.fromEntries(variables.map((name) => [name, "99999999999"]))
      })
      for (const name of [...variables, "OTEL_BSP_MAX_QUEUE_SIZE"]) {
        const line = yield* Effect.promise(() => program.logged(({ error }) => String(error).startsWith(name)))
        assert.strictEqual(line["error"], `${name} is not between 1 and 2147483647, using the default`)
      }
    }))

  it.effect("exports what is still queued before it ends", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector()
      const backend = yield* startBackend()
      const program = yield* startProgram(to(backend), { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
      yield* Effect.promise(() => deliver(program.port, "{}"))
      program.process.kill("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => program.exit), 0)
      assert.lengthOf(collector.spans, 3)
      assert.include(collector.logs.map(({ body }) => body), "delivery answered")
      assert.include(Array.from(collector.metrics), "sprayproxy_http_inbound_requests_total")
    }))
})
