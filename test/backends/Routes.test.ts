import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as TestClock from "effect/testing/TestClock"
import * as http from "node:http"
import { BackendPolicy, BackendRefused } from "../../src/backends/Policy.ts"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { BackendRoutes } from "../../src/backends/Routes.ts"
import { parse } from "../../src/domain/Backend.ts"
import { Log } from "../../src/observability/logs/Logging.ts"
import { Metrics } from "../../src/observability/metrics/Metrics.ts"
import { Settings } from "../../src/settings/Settings.ts"

const policy = BackendPolicy.of({
  admit: (backend) =>
    backend.name === "evil.example.com" ? Effect.fail(new BackendRefused({ reason: "not that one" })) : Effect.void,
  refusalOf: () => undefined,
  checkAddress: () => undefined
})

const layer = (settings: Partial<Settings["Service"]> = {}, server = http.createServer()) => {
  const dependencies = BackendRegistry.layer.pipe(
    Layer.provide([Layer.succeed(BackendPolicy, policy), Layer.succeed(Log, { write: () => {} }), Metrics.layer]),
    Layer.provideMerge(Settings.layerFrom({ enableDynamicBackends: true, dynamicBackendLimit: 2, ...settings }))
  )
  return HttpRouter.serve(BackendRoutes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })),
    Layer.provideMerge(dependencies)
  )
}

interface Answer {
  readonly status: number | undefined
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

const origin = Effect.map(HttpServer.HttpServer, ({ address }) => HttpServer.formatAddress(address))

/** Sends `body` as `curl --data` does, with a form's content type. */
const send = Effect.fnUntraced(function*(
  method: string,
  body?: string | ReadonlyArray<string | Buffer>,
  headers: http.OutgoingHttpHeaders = {}
) {
  const url = `${yield* origin}/backends`
  return yield* Effect.callback<Answer>((resume) => {
    const form = body === undefined ? {} : { "content-type": "application/x-www-form-urlencoded" }
    const length = typeof body === "string" ? { "content-length": Buffer.byteLength(body) } : {}
    const request = http.request(url, { method, agent: false, headers: { ...form, ...length, ...headers } })
    request.on("error", (error) => resume(Effect.die(error)))
    request.on("response", (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk) => chunks.push(chunk))
      response.on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode,
          headers: response.headers,
          body: Buffer.concat(chunks).toString()
        })))
    })
    if (typeof body === "string") request.end(body)
    else {
      for (const chunk of body ?? []) request.write(chunk)
      request.end()
    }
  })
})

const expectText = Effect.fnUntraced(
  function*(answer: Effect.Effect<Answer, never, HttpServer.HttpServer>, status: number, body: string) {
    const { body: actual, headers, status: actualStatus } = yield* answer
    assert.deepStrictEqual([actualStatus, actual], [status, body])
    assert.strictEqual(headers["content-type"], "text/plain; charset=utf-8")
  }
)

const pac = `{"url":"https://pac.example.com"}`
const filled = (bytes: number) => pac + " ".repeat(bytes - pac.length)

describe("what a page in a browser sends", () => {
  it.effect("is refused, and changes nothing", () =>
    Effect.gen(function*() {
      yield* send("POST", `{"url":"https://kept.example.com"}`)
      for (const headers of [{ "sec-fetch-site": "cross-site" }, { origin: "https://evil.example.org" }]) {
        for (
          const [method, body] of [["GET"], ["POST", pac], ["DELETE", `{"url":"https://kept.example.com"}`]] as const
        ) {
          yield* expectText(send(method, body, headers), 403, "requests of web pages are refused")
        }
      }
      yield* expectText(send("POST", filled(60_000), { origin: "null" }), 403, "requests of web pages are refused")
      yield* expectText(
        send("GET", undefined, { "sec-fetch-site": "none" }),
        200,
        "Backend urls: https://kept.example.com"
      )
    }).pipe(Effect.provide(layer())))
})

describe("GET /backends", () => {
  it.effect("lists the URLs, none with a trailing space", () =>
    Effect.gen(function*() {
      yield* expectText(send("GET"), 200, "Backend urls: ")
      yield* send("POST", pac)
      yield* send("POST", `{"url":"http://B.example.com/x/"}`)
      yield* expectText(send("GET"), 200, "Backend urls: https://pac.example.com, http://B.example.com/x/")
    }).pipe(Effect.provide(layer())))

  it.effect("ignores a body", () => Effect.provide(expectText(send("GET", "no json"), 200, "Backend urls: "), layer()))

  it.effect("tells all it knows in JSON", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 2, 3, 4, 5, 6))
      yield* send(
        "POST",
        JSON.stringify({
          url: "https://pac.example.com",
          ttl: "24h",
          repositories: ["Org/Repo", "other/*"],
          events: ["push"]
        })
      )
      const registry = yield* BackendRegistry
      registry.recordOutcome(registry.snapshot()[1]!, "delivered", Date.UTC(2026, 0, 2, 4))
      const answer = yield* send("GET", undefined, { accept: "application/json" })
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(answer.headers["content-type"], "application/json")
      assert.deepStrictEqual(JSON.parse(answer.body), [
        {
          url: "https://static.example.com",
          source: "static",
          registeredAt: "1970-01-01T00:00:00.000Z",
          expiresAt: null,
          repositories: null,
          events: null,
          lastOutcome: null,
          lastOutcomeAt: null
        },
        {
          url: "https://pac.example.com",
          source: "dynamic",
          registeredAt: "2026-01-02T03:04:05.006Z",
          expiresAt: "2026-01-03T03:04:05.006Z",
          repositories: ["org/repo", "other/*"],
          events: ["push"],
          lastOutcome: "delivered",
          lastOutcomeAt: "2026-01-02T04:00:00.000Z"
        }
      ])
    }).pipe(Effect.provide(layer({ backends: [Result.getOrThrow(parse("https://static.example.com", "static"))] }))))

  it.effect("answers in JSON only who prefers it", () =>
    Effect.gen(function*() {
      for (
        const accept of [
          "application/json",
          "Application/JSON; charset=utf-8",
          "application/*",
          "application/json, */*",
          "application/json, text/plain, */*",
          "text/plain;q=0.5, application/json",
          "text/*;q=0.9, application/json;q=0.95, */*;q=0.1"
        ]
      ) assert.strictEqual((yield* send("GET", undefined, { accept })).body, "[]", accept)
      for (
        const accept of [
          "*/*",
          "text/plain",
          "text/plain, application/json",
          "application/json;q=0.4, text/plain;q=0.5",
          "application/json;q=0",
          "application/jsonp",
          "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
          ""
        ]
      ) assert.strictEqual((yield* send("GET", undefined, { accept })).body, "Backend urls: ", accept)
    }).pipe(Effect.provide(layer())))
})

describe("POST /backends", () => {
  it.effect("registers, and says so when the backend is there already", () =>
    Effect.gen(function*() {
      yield* expectText(send("POST", pac), 200, "registered the backend server")
      yield* expectText(send("POST", pac), 302, "backend server already registered")
      yield* expectText(
        send("POST", `{"url":"https://PAC.example.com:443/"}`),
        302,
        "backend server already registered"
      )
    }).pipe(Effect.provide(layer())))

  it.effect.each(["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"])(
    "takes the body for JSON when it is called %s",
    (type) =>
      Effect.provide(
        expectText(send("POST", pac, { "content-type": type }), 200, "registered the backend server"),
        layer()
      )
  )

  it.effect("a ttl ends the registration, and is renewed", () =>
    Effect.gen(function*() {
      const timed = `{"url":"https://pac.example.com","ttl":"1m30s"}`
      yield* send("POST", timed)
      yield* TestClock.adjust("89 seconds")
      yield* expectText(send("POST", timed), 302, "backend server already registered")
      yield* TestClock.adjust("89 seconds")
      yield* expectText(send("GET"), 200, "Backend urls: https://pac.example.com")
      yield* TestClock.adjust("1 second")
      yield* expectText(send("GET"), 200, "Backend urls: ")
    }).pipe(Effect.provide(layer())))

  it.effect("ignores members it does not know, and a ttl of null", () =>
    Effect.gen(function*() {
      const body = `{"url":"https://pac.example.com","ttl":null,"source":"static","x":[1]}`
      yield* expectText(send("POST", body), 200, "registered the backend server")
      const registry = yield* BackendRegistry
      assert.deepInclude((yield* registry.list)[0], { expiresAt: undefined })
      assert.strictEqual(registry.snapshot()[0]?.source, "dynamic")
    }).pipe(Effect.provide(layer())))

  it.effect.each([
    "",
    "{",
    "null",
    "[]",
    `"https://pac.example.com"`,
    "{}",
    `{"url":1}`,
    `{"url":null}`,
    "url=https://x"
  ])(
    "%j is no valid body",
    (body) => Effect.provide(expectText(send("POST", body), 400, "please provide a valid json body"), layer())
  )

  it.effect.each([
    [`{"url":""}`, "a backend url starts with http:// or https://"],
    [`{"url":"ftp://x"}`, "a backend url starts with http:// or https://"],
    [`{"url":"https://me:secret@x"}`, "a backend url has no credentials"],
    [`{"url":"https://x#y"}`, "a backend url has no fragment"],
    [`{"url":"https://evil.example.com"}`, "not that one"],
    [`{"url":"https://x","ttl":"1 day"}`, `ttl is "1 day"; a ttl is a duration above zero, like "24h" or "1h30m"`],
    [`{"url":"https://x","ttl":""}`, `ttl is ""; a ttl is a duration above zero, like "24h" or "1h30m"`],
    [`{"url":"https://x","ttl":"0s"}`, `ttl is "0s"; a ttl is a duration above zero, like "24h" or "1h30m"`],
    [`{"url":"https://x","ttl":"-1h"}`, `ttl is "-1h"; a ttl is a duration above zero, like "24h" or "1h30m"`],
    [`{"url":"https://x","ttl":60}`, `ttl is 60; a ttl is a duration above zero, like "24h" or "1h30m"`]
  ])("refuses %s with the reason", ([body, reason]) =>
    Effect.gen(function*() {
      yield* expectText(send("POST", body), 422, reason!)
      yield* expectText(send("GET"), 200, "Backend urls: ")
    }).pipe(Effect.provide(layer())))

  it.effect("keeps the limit", () =>
    Effect.gen(function*() {
      yield* send("POST", `{"url":"https://1.example.com"}`)
      yield* send("POST", `{"url":"https://2.example.com"}`)
      yield* expectText(send("POST", pac), 409, "no more than 2 dynamic backends are allowed")
      yield* expectText(send("POST", `{"url":"https://2.example.com"}`), 302, "backend server already registered")
    }).pipe(Effect.provide(layer())))

  it.effect("two thousand at once are all there", () =>
    Effect.gen(function*() {
      const bodies = Array.from({ length: 2000 }, (_, n) => `{"url":"https://${n}.example.com"}`)
      const answers = yield* Effect.forEach(bodies, (body) => send("POST", body), { concurrency: 200 })
      assert.deepStrictEqual(answers.filter(({ status }) => status !== 200), [])
      assert.lengthOf((yield* BackendRegistry).snapshot(), 2000)
    }).pipe(Effect.provide(layer({ dynamicBackendLimit: 2000 }))))
})

describe("DELETE /backends", () => {
  it.effect("unregisters a dynamic backend and no other", () =>
    Effect.gen(function*() {
      yield* send("POST", pac)
      yield* expectText(send("DELETE", `{"url":"https://other"}`), 404, "backend server not found in the list")
      yield* expectText(send("DELETE", `{"url":"no url"}`), 404, "backend server not found in the list")
      yield* expectText(
        send("DELETE", `{"url":"https://static.example.com"}`),
        403,
        "a static backend can't be unregistered"
      )
      yield* expectText(send("DELETE", "{"), 400, "please provide a valid json body")
      yield* expectText(send("DELETE"), 400, "please provide a valid json body")
      yield* expectText(
        send("DELETE", `{"url":"https://pac.example.com/","ttl":"nonsense"}`),
        200,
        "backend server unregistered"
      )
      yield* expectText(send("DELETE", pac), 404, "backend server not found in the list")
      yield* expectText(send("GET"), 200, "Backend urls: https://static.example.com")
    }).pipe(Effect.provide(layer({ backends: [Result.getOrThrow(parse("https://static.example.com", "static"))] }))))
})

describe("a body", () => {
  it.effect("may have 64 KiB and not a byte more, announced or not", () =>
    Effect.gen(function*() {
      yield* expectText(send("POST", filled(65_536)), 200, "registered the backend server")
      yield* expectText(send("POST", [filled(65_536)]), 302, "backend server already registered")
      yield* expectText(send("POST", filled(65_537)), 413, "request body too large")
      yield* expectText(send("POST", [filled(65_536), " "]), 413, "request body too large")
      yield* expectText(send("DELETE", filled(65_537)), 413, "request body too large")
    }).pipe(Effect.provide(layer())))

  it.effect("of megabytes gets its answer", () =>
    Effect.gen(function*() {
      const megabytes = Array.from({ length: 8 }, () => Buffer.alloc(1024 * 1024, " "))
      yield* expectText(send("POST", megabytes), 413, "request body too large")
      yield* expectText(send("POST", Buffer.concat(megabytes).toString()), 413, "request body too large")
    }).pipe(Effect.provide(layer())))

  it.effect("that is announced too large is not asked for", () =>
    Effect.gen(function*() {
      const url = `${yield* origin}/backends`
      const status = yield* Effect.callback<number | undefined>((resume) => {
        const headers = { "content-length": 65_537, expect: "100-continue" }
        const request = http.request(url, { method: "POST", agent: false, headers })
        request.on("continue", () => resume(Effect.die(new Error("asked for the body"))))
        request.on("error", (error) => resume(Effect.die(error)))
        request.on("response", (response) => {
          request.destroy()
          resume(Effect.succeed(response.statusCode))
        })
        request.flushHeaders()
      })
      assert.strictEqual(status, 413)
    }).pipe(Effect.provide(layer())))

  it.effect("that is not there after ten seconds is no valid body", () => {
    const server = http.createServer()
    return Effect.gen(function*() {
      const url = `${yield* origin}/backends`
      const arrived = Effect.callback<void>((resume) => {
        // A turn later the handler waits for the body.
        server.once("request", () => void setImmediate(() => resume(Effect.void)))
      })
      const answer = Effect.callback<number | undefined>((resume) => {
        const request = http.request(url, { method: "POST", agent: false, headers: { "content-length": 100 } })
        request.on("error", (error) => resume(Effect.die(error)))
        request.on("response", (response) => {
          request.destroy()
          resume(Effect.succeed(response.statusCode))
        })
        request.write(pac)
      })
      const [status] = yield* Effect.all([answer, Effect.andThen(arrived, TestClock.adjust("10 seconds"))], {
        concurrency: "unbounded"
      })
      assert.strictEqual(status, 400)
      yield* expectText(send("GET"), 200, "Backend urls: ")
    }).pipe(Effect.provide(layer({}, server)))
  })
})

describe("/backends", () => {
  it.effect.each(["PUT", "PATCH", "OPTIONS"])(
    "answers %s with 405 and what is allowed",
    (method) =>
      Effect.gen(function*() {
        const answer = yield* send(method, "{}")
        assert.strictEqual(answer.status, 405)
        assert.strictEqual(answer.headers["allow"], "GET, POST, DELETE")
      }).pipe(Effect.provide(layer()))
  )

  it.effect.each(["GET", "POST", "DELETE", "PUT"])(
    "is not there without dynamic backends (%s)",
    (method) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* send(method, method === "GET" ? undefined : pac)).status, 404)
      }).pipe(Effect.provide(layer({ enableDynamicBackends: false })))
  )
})
