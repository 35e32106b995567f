import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as HttpServer from "effect/http/HttpServer"
import { createHmac } from "node:crypto"
import { layer as RoutesLayer } from "../src/Routes.ts"
import { BackendMembership } from "../src/backends/Membership.ts"
import { BackendPolicy } from "../src/backends/Policy.ts"
import { BackendRegistry } from "../src/backends/Registry.ts"
import type { Delivery } from "../src/domain/Delivery.ts"
import type { SprayResult } from "../src/forwarding/Reply.ts"
import { Spray } from "../src/forwarding/Spray.ts"
import { PublicServer } from "../src/http/PublicServer.ts"
import { Readiness } from "../src/http/Readiness.ts"
import { DeliveryLog } from "../src/observability/logs/DeliveryLog.ts"
import { Log, LogEntries } from "../src/observability/logs/Logging.ts"
import { RefusalLog } from "../src/observability/logs/RefusalLog.ts"
import { Metrics } from "../src/observability/metrics/Metrics.ts"
import { Tracing } from "../src/observability/telemetry/Tracing.ts"
import { MemoryBudget } from "../src/runtime/MemoryBudget.ts"
import { Timers } from "../src/runtime/Timers.ts"
import { Settings } from "../src/settings/Settings.ts"
import { BodyReader } from "../src/webhook/BodyReader.ts"
import { Pseudonym } from "../src/webhook/Pseudonym.ts"
import { WebhookSecrets } from "../src/webhook/Secrets.ts"
import { WebhookVerifier } from "../src/webhook/Verifier.ts"
import { type Reply } from "./support/GitHub.ts"
import { openConnection, type RawConnection } from "./support/RawConnection.ts"
import { scrape } from "./support/Scrape.ts"

/** A spray that keeps the deliveries that arrive, and gives each the result that the test sets. */
class Sprayed extends Context.Service<Sprayed, {
  readonly deliveries: Array<Delivery>
  result: SprayResult | "overloaded" | "a defect"
}>()("sprayproxy/test/Routes.test/Sprayed") {}

const SprayStub = Layer.effect(
  Spray,
  Effect.map(Sprayed, (sprayed) =>
    Spray.of({
      spray: (delivery, _reservation, _deadline, observer) => {
        sprayed.deliveries.push(delivery)
        if (sprayed.result === "a defect") throw new Error("no such luck")
        observer.replied(sprayed.result)
        observer.ended()
        return () => {}
      },
      begin: () => {},
      inFlight: () => 0,
      idle: Effect.void,
      cutOff: Effect.succeed([])
    }))
)

const TestLayer = (settings: Partial<Settings["Service"]> = {}) =>
  RoutesLayer.pipe(
    Layer.provideMerge(PublicServer.layerHttpServer),
    Layer.provideMerge(PublicServer.layer),
    Layer.provide([SprayStub, BodyReader.layer, WebhookVerifier.layer, BackendRegistry.layer, DeliveryLog.layer]),
    Layer.provide([
      RefusalLog.layer,
      Layer.succeed(BackendPolicy, {
        admit: () => Effect.void,
        refusalOf: () => undefined,
        checkAddress: () => undefined
      })
    ]),
    Layer.provideMerge(Layer.mergeAll(
      Readiness.layer,
      Tracing.layerOff,
      Metrics.layer,
      Layer.succeed(Pseudonym, { names: () => ["sprayproxy-me"] as const }),
      Timers.layer,
      MemoryBudget.layer,
      Layer.sync(Sprayed, () => ({ deliveries: [], result: "proxied" as const }))
    )),
    Layer.provideMerge(Log.layerTest),
    Layer.provideMerge(Settings.layerFrom({
      host: "127.0.0.1",
      port: 0,
      webhookSecret: Option.some(Redacted.make("secret")),
      ...settings
    })),
    Layer.provide(NodeFileSystem.layer)
  )

const connect = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  return yield* openConnection(Number(new URL(HttpServer.formatAddress(address)).port))
})

const ask = (connection: RawConnection, request: string, replies = 1) =>
  Effect.promise(async () => {
    connection.write(Buffer.from(request, "latin1"))
    return (await connection.replies(replies)).at(-1)!
  })

const request = (method: string, target: string, headers: ReadonlyArray<string> = [], body = "") =>
  [`${method} ${target} HTTP/1.1`, "Host: x", ...headers, `Content-Length: ${body.length}`, "", body].join("\r\n")

const signed = (body: string) =>
  `X-Hub-Signature-256: sha256=${createHmac("sha256", "secret").update(body).digest("hex")}`

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const is = (reply: Reply, status: number, text: string) => {
  assert.deepInclude(reply, { status, text })
  assert.strictEqual(reply.headers["content-type"], "text/plain; charset=utf-8")
  assert.match(String(reply.headers["x-request-id"]), uuid)
}

layer(TestLayer(), { excludeTestServices: true })("Routes", (it) => {
  it.effect.each(
    [
      ["GET", "/", 200, "healthy"],
      ["GET", "/proxy", 200, "healthy"],
      ["GET", "/?x=1", 200, "healthy"],
      ["GET", "/healthz", 200, "healthy"],
      ["GET", "/readyz", 200, "ready"],
      ["GET", "http://any.example.com/proxy", 200, "healthy"],
      ["GET", "http://any.example.com", 200, "healthy"],
      ["POST", "/healthz", 405, "method not allowed"],
      ["PUT", "/", 405, "method not allowed"],
      ["DELETE", "/proxy", 405, "method not allowed"],
      ["GET", "/metrics", 404, "not found"],
      ["GET", "/backends", 404, "not found"],
      ["POST", "/backends", 404, "not found"],
      ["POST", "/PROXY", 404, "not found"],
      ["POST", "//proxy", 404, "not found"],
      ["POST", "/proxy/", 404, "not found"],
      ["POST", "/%70roxy", 404, "not found"],
      ["POST", "/proxy;x", 404, "not found"],
      ["GET", "/HEALTHZ", 404, "not found"],
      ["OPTIONS", "*", 404, "not found"],
      ["GET", "http://any.example.com/else", 404, "not found"],
      ["GET", "ftp://any.example.com/proxy", 404, "not found"],
      ["GET", "/%", 404, "not found"],
      ["GET", "/%zz", 404, "not found"],
      ["POST", "/proxy%ff", 404, "not found"],
      ["GET", `/${"a".repeat(150)}`, 404, "not found"]
    ] as const
  )("%s %s is answered %d %s", ([method, target, status, text]) =>
    Effect.gen(function*() {
      is(yield* ask(yield* connect, request(method, target)), status, text)
    }))

  it.effect.each(
    [
      ["proxied", 200, "proxied"],
      ["accepted", 202, "accepted"],
      ["forwarding", 202, "forwarding"],
      ["failed", 502, "failed to proxy"],
      ["overloaded", 503, "overloaded"]
    ] as const
  )("a delivery whose spray is %s is answered %d", ([result, status, text]) =>
    Effect.gen(function*() {
      const sprayed = yield* Sprayed
      sprayed.result = result
      const reply = yield* ask(yield* connect, request("POST", "/proxy", [signed("{}")], "{}"))
      is(reply, status, text)
      assert.strictEqual(reply.headers["retry-after"], status === 503 ? "10" : undefined)
    }))

  it.effect("a delivery on whose way there is a defect is answered 500, and keeps no memory", () =>
    Effect.gen(function*() {
      const sprayed = yield* Sprayed
      sprayed.result = "a defect"
      const reply = yield* ask(yield* connect, request("POST", "/proxy", [signed("{}")], "{}"))
      assert.strictEqual(reply.status, 500)
      assert.strictEqual((yield* MemoryBudget).state().used, 0)
      sprayed.result = "proxied"
      is(yield* ask(yield* connect, request("POST", "/proxy", [signed("{}")], "{}")), 200, "proxied")
    }))

  it.effect("a delivery goes on as it came, without what concerned only this connection", () =>
    Effect.gen(function*() {
      const sprayed = yield* Sprayed
      sprayed.result = "proxied"
      const headers = ["X-GitHub-Delivery: guid", "X-GitHub-Event: push", signed("{}"), "Via: 1.0 gw", "Keep-Alive: 1"]
      const reply = yield* ask(yield* connect, request("POST", "/proxy?a=%2F", headers, "{}"))
      const delivery = sprayed.deliveries.at(-1)!
      assert.deepInclude(delivery, {
        requestId: reply.headers["x-request-id"] as string,
        guid: "guid",
        event: "push",
        method: "POST",
        target: "/proxy?a=%2F",
        forwardedTarget: "/?a=%2F"
      })
      const [name, value] = signed("{}").split(": ")
      assert.deepStrictEqual(
        delivery.headers,
        [
          ["X-GitHub-Delivery", "guid"],
          ["X-GitHub-Event", "push"],
          [name!, value!],
          ["Via", "1.0 gw"],
          ["Content-Length", "2"],
          ["Via", "1.1 sprayproxy-me"]
        ].flat()
      )
      assert.strictEqual(String(delivery.body.toDispatch()), "{}")
    }))

  it.effect.each([
    { why: "it has been here", via: ["Via: 1.1 sprayproxy-me"] },
    { why: "it has been here, and elsewhere since", via: ["Via: 1.1 sprayproxy-me, 1.1 gw"] },
    { why: "it has been here, as a second line says", via: ["Via: 1.1 gw", "Via: 1.1 sprayproxy-me"] },
    { why: "too many have had it", via: [1, 2, 3, 4, 5].map((i) => `Via: 1.1 sprayproxy-${i}`) }
  ])("a delivery is a loop because $why", ({ via }) =>
    Effect.gen(function*() {
      const sprayed = yield* Sprayed
      const before = sprayed.deliveries.length
      is(yield* ask(yield* connect, request("POST", "/", [signed("{}"), ...via], "{}")), 508, "loop")
      assert.strictEqual(sprayed.deliveries.length, before)
    }))

  it.effect.each(["/", "/proxy"] as const)(
    "a request to POST %s in an unknown transfer coding is refused, logged and counted",
    (path) =>
      Effect.gen(function*() {
        const counted = Effect.map(scrape, (seen) => [
          seen.value("sprayproxy_http_inbound_requests_total"),
          seen.value(`sprayproxy_deliveries_total{answer="refused",reason="transfer coding unknown"}`)
        ])
        const ask501 = (method: string) =>
          Effect.flatMap(connect, (connection) =>
            ask(
              connection,
              `${method} ${path} HTTP/1.1\r\nHost: x\r\nX-GitHub-Delivery: guid\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`
            ))
        const before = yield* counted
        const reply = yield* ask501("POST")
        is(reply, 501, "transfer coding not implemented")
        const { entries } = yield* LogEntries
        assert.deepInclude(entries.at(-1)!.fields, {
          "request-id": String(reply.headers["x-request-id"]),
          reason: "transfer coding unknown",
          status: 501,
          delivery: "guid",
          path
        })
        // A probe is no webhook request.
        is(yield* ask501("GET"), 501, "transfer coding not implemented")
        assert.deepStrictEqual(yield* counted, before.map((count) => Number(count) + 1))
      })
  )

  it.effect.each(["h2c", "websocket", "TLS/1.0"])(
    "a delivery that offers another protocol, %s, is a delivery",
    (protocol) =>
      Effect.gen(function*() {
        const sprayed = yield* Sprayed
        const headers = [signed("{}"), "Connection: Upgrade", `Upgrade: ${protocol}`]
        is(yield* ask(yield* connect, request("POST", "/", headers, "{}")), 200, "proxied")
        assert.strictEqual(String(sprayed.deliveries.at(-1)!.body.toDispatch()), "{}")
        assert.notInclude(sprayed.deliveries.at(-1)!.headers, "Upgrade")
      })
  )

  it.effect("a client that waits for our word gets it, and its delivery goes on", () =>
    Effect.gen(function*() {
      const connection = yield* connect
      const head = request("POST", "/", [signed("{}"), "Expect: 100-continue"], "{}").slice(0, -2)
      assert.strictEqual((yield* ask(connection, head)).status, 100)
      is(yield* ask(connection, "{}", 2), 200, "proxied")
    }))

  // RFC 9110 §10.1.1: it would take the interim reply for the reply.
  it.effect("a client of HTTP/1.0 gets no interim reply, whatever it expects", () =>
    Effect.gen(function*() {
      const headers = [signed("{}"), "Expect: 100-continue"]
      const http10 = request("POST", "/", headers, "{}").replace("HTTP/1.1", "HTTP/1.0")
      is(yield* ask(yield* connect, http10), 200, "proxied")
    }))

  it.effect("no memory is held when all is done", () =>
    Effect.gen(function*() {
      const budget = yield* MemoryBudget
      assert.deepInclude(budget.state(), { used: 0, waiting: 0 })
    }))
})

layer(TestLayer({ enableDynamicBackends: true }), { excludeTestServices: true })(
  "Routes with dynamic backends",
  (it) => {
    it.effect.each(
      [
        ["GET", "/backends", 200, "Backend urls: "],
        ["PUT", "/backends", 405, "method not allowed"],
        ["GET", "/Backends", 404, "not found"],
        ["GET", "/backends/", 404, "not found"],
        ["GET", "//backends", 404, "not found"],
        ["GET", "/backend%73", 404, "not found"]
      ] as const
    )("%s %s is answered %d", ([method, target, status, text]) =>
      Effect.gen(function*() {
        is(yield* ask(yield* connect, request(method, target)), status, text)
      }))
  }
)

layer(
  TestLayer({ webhookSecret: Option.none() }).pipe(
    Layer.provide(Layer.succeed(WebhookSecrets, { current: () => [], changedAt: () => 0 }))
  ),
  { excludeTestServices: true }
)("Routes without a secret", (it) => {
  it.effect("no delivery is taken", () =>
    Effect.gen(function*() {
      const reply = yield* ask(yield* connect, request("POST", "/", [signed("{}")], "{}"))
      is(reply, 503, "no secret")
      assert.strictEqual(reply.headers["retry-after"], "10")
      assert.strictEqual((yield* Sprayed).deliveries.length, 0)
      is(yield* ask(yield* connect, request("GET", "/readyz")), 503, "no secret")
      is(yield* ask(yield* connect, request("GET", "/")), 200, "healthy")
    }))
})

layer(
  TestLayer({ enableDynamicBackends: true }).pipe(
    Layer.provide(Layer.succeed(BackendMembership, {
      put: () => Effect.succeed("unshared"),
      remove: () => Effect.succeed(undefined),
      noteFailing: () => {},
      removeDead: () => Effect.succeed(false),
      follow: () => Effect.void,
      isKnown: () => false
    }))
  ),
  { excludeTestServices: true }
)("Routes while the backends that others share are unknown", (it) => {
  it.effect("no delivery is taken: who has registered would miss it, and GitHub would think it well", () =>
    Effect.gen(function*() {
      const reply = yield* ask(yield* connect, request("POST", "/proxy", [signed("{}")], "{}"))
      is(reply, 503, "backends unknown")
      assert.strictEqual(reply.headers["retry-after"], "10")
      assert.strictEqual((yield* Sprayed).deliveries.length, 0)
      is(yield* ask(yield* connect, request("GET", "/readyz")), 503, "backends unknown")
      is(yield* ask(yield* connect, request("GET", "/healthz")), 200, "healthy")
      is(yield* ask(yield* connect, request("POST", "/proxy", [], "{}")), 400, "bad request")
    }))
})
