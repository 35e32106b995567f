import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, layer, live } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Http from "node:http"
import { pathOf } from "../../src/domain/RequestTarget.ts"
import { addNotFound, addPath } from "../../src/http/MethodRoutes.ts"
import { plainText } from "../../src/http/PlainText.ts"
import { send } from "../support/GitHub.ts"
import { openConnection } from "../support/RawConnection.ts"

const Routes = Layer.mergeAll(
  HttpRouter.use((router) =>
    addPath(router, "/proxy", {
      GET: () => Effect.succeed(plainText(200, "got")),
      POST: (request) => Effect.succeed(plainText(200, `posted ${request.url}`))
    })
  ),
  HttpRouter.use((router) =>
    Effect.all([
      addPath(router, "/things/all", { POST: () => Effect.succeed(plainText(200, "all")) }),
      addPath(router, "/things/:id", { GET: (_, id) => Effect.succeed(plainText(200, `<${id}>`)) }),
      addPath(router, "/things/:id/end", { POST: (_, id) => Effect.succeed(plainText(200, `ended <${id}>`)) })
    ])
  ),
  HttpRouter.use((router) => addPath(router, "/only", { DELETE: () => Effect.succeed(plainText(200, "deleted")) })),
  HttpRouter.use(addNotFound)
)

const serve = <E, R>(routes: Layer.Layer<never, E, R>) =>
  HttpRouter.serve(routes, {
    disableLogger: true,
    disableListenLog: true,
    routerConfig: { caseSensitive: true, ignoreTrailingSlash: false, ignoreDuplicateSlashes: false }
  }).pipe(Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port: 0, host: "127.0.0.1" })))

const port = Effect.map(
  HttpServer.HttpServer,
  ({ address }) => Number(new URL(HttpServer.formatAddress(address)).port)
)

const request = Effect.fnUntraced(function*(method: string, path: string) {
  const to = yield* port
  return yield* Effect.promise(() => send(to, { method, path }))
})

layer(serve(Routes), { excludeTestServices: true })("a path", (it) => {
  it.effect("has a handler for each of its methods", () =>
    Effect.gen(function*() {
      assert.deepInclude(yield* request("GET", "/proxy"), { status: 200, text: "got" })
      assert.deepInclude(yield* request("POST", "/proxy?x=%2F"), { status: 200, text: "posted /proxy?x=%2F" })
      assert.deepInclude(yield* request("DELETE", "/only"), { status: 200, text: "deleted" })
    }))

  it.effect("answers HEAD as GET, without the body", () =>
    Effect.gen(function*() {
      const reply = yield* request("HEAD", "/proxy")
      assert.deepInclude(reply, { status: 200, text: "" })
      assert.strictEqual(reply.headers["content-length"], "3")
      assert.deepInclude(yield* request("HEAD", "/only"), { status: 405, text: "" })
    }))

  it.effect.each(Http.METHODS.filter((method) => !["GET", "HEAD", "POST", "CONNECT"].includes(method)))(
    "answers %s with 405 and what is allowed",
    (method) =>
      Effect.gen(function*() {
        const reply = yield* request(method, "/proxy")
        assert.deepInclude(reply, { status: 405, text: "method not allowed" })
        assert.strictEqual(reply.headers["allow"], "GET, POST")
      })
  )

  it.effect("names only the methods it has", () =>
    Effect.gen(function*() {
      const reply = yield* request("POST", "/only")
      assert.strictEqual(reply.status, 405)
      assert.strictEqual(reply.headers["allow"], "DELETE")
    }))
})

layer(serve(Routes), { excludeTestServices: true })("a body", (it) => {
  const chunks = "2\r\n{}\r\n0\r\n\r\n"
  const refused = { 400: "bad request", 501: "transfer coding not implemented" }

  it.effect.each([
    { status: 501, version: "1.1", method: "POST", path: "/proxy", codings: ["gzip, chunked"] },
    { status: 501, version: "1.1", method: "POST", path: "/proxy", codings: ["gzip", "chunked"] },
    { status: 501, version: "1.1", method: "POST", path: "/proxy", codings: ["identity,Chunked"] },
    { status: 501, version: "1.1", method: "GET", path: "/proxy", codings: ["gzip, chunked"] },
    { status: 501, version: "1.1", method: "DELETE", path: "/only", codings: ["x-mine, chunked"] },
    { status: 400, version: "1.0", method: "POST", path: "/proxy", codings: ["chunked"] }
  ])(
    "in the codings $codings of HTTP/$version is answered $status, and its connection ends",
    (row) =>
      Effect.gen(function*() {
        const connection = yield* openConnection(yield* port)
        const headers = row.codings.map((coding) => `Transfer-Encoding: ${coding}\r\n`).join("")
        connection.write(
          `${row.method} ${row.path} HTTP/${row.version}\r\nHost: x\r\nConnection: keep-alive\r\n${headers}\r\n${chunks}`
        )
        const [reply] = yield* Effect.promise(() => connection.replies(1))
        assert.deepInclude(reply, { status: row.status, text: refused[row.status as keyof typeof refused] })
        assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      })
  )

  it.effect("in chunks is taken, however the word is written", () =>
    Effect.gen(function*() {
      const connection = yield* openConnection(yield* port)
      connection.write(`POST /proxy HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n${chunks}`)
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.deepInclude(reply, { status: 200, text: "posted /proxy" })
    }))
})

layer(serve(Routes), { excludeTestServices: true })("a path with a variable", (it) => {
  it.effect.each([
    ["/things/a", "<a>"],
    ["/things/a?b=/c", "<a>"],
    ["/things/a%2Fb%20%25", "<a/b %>"],
    ["/things/a;b", "<a;b>"],
    ["/things/%C3%BC", "<ü>"],
    ["/things/:id", "<:id>"],
    ["/things/end", "<end>"]
  ])("hands it on unescaped: %s", ([path, text]) =>
    Effect.gen(function*() {
      assert.deepInclude(yield* request("GET", path!), { status: 200, text: text! })
    }))

  it.effect("may go on after it, and leaves a path without one alone", () =>
    Effect.gen(function*() {
      assert.deepInclude(yield* request("POST", "/things/a%2Fb/end"), { status: 200, text: "ended <a/b>" })
      assert.deepInclude(yield* request("POST", "/things/all"), { status: 200, text: "all" })
      for (const [method, path, allow] of [["GET", "/things/all", "POST"], ["POST", "/things/a", "GET"]] as const) {
        const reply = yield* request(method, path)
        assert.deepStrictEqual([reply.status, reply.headers["allow"]], [405, allow])
      }
    }))

  it.effect.each([
    "/things/",
    "/things//end",
    "/things/a/",
    "/things/a/end/",
    "/things/a/END",
    "/thing%73/a",
    "/things/a/%65nd",
    "/things/a/b",
    "/things/%",
    "/things/%ff",
    "/THINGS/a"
  ])("is no other: %s", (path) =>
    Effect.gen(function*() {
      for (const method of ["GET", "POST"]) {
        assert.deepInclude(yield* request(method, path), { status: 404, text: "not found" }, method)
      }
    }))
})

layer(serve(Routes), { excludeTestServices: true })("any other path", (it) => {
  it.effect.each([
    "/PROXY",
    "/Proxy",
    "/proxy/",
    "//proxy",
    "/proxy//",
    "/%70roxy",
    "/proxy%20",
    "/proxy%00",
    "/proxy;x",
    "/proxy;x=1?y",
    "/proxy#x",
    "/proxyx",
    "/prox",
    "/./proxy",
    "/a/../proxy",
    "/*",
    "/proxy/x",
    "/only%2F"
  ])("is not found: %s", (path) =>
    Effect.gen(function*() {
      for (const method of ["GET", "POST", "PUT"]) {
        assert.deepInclude(yield* request(method, path), { status: 404, text: "not found" }, method)
      }
    }))

  it.effect.prop(
    "is not found, however much it looks like one that is",
    {
      parts: Arbitrary.array(
        Arbitrary.schema(
          Schema.Literals([
            "/",
            "/proxy",
            "proxy",
            "PROXY",
            "p",
            "%70",
            "%",
            "%2F",
            ";",
            "#",
            ".",
            "..",
            "*",
            ":",
            "?x"
          ])
        ),
        { maxLength: 6 }
      )
    },
    ({ parts }) =>
      Effect.gen(function*() {
        const target = `/${parts.join("")}`
        const reply = yield* request("POST", target)
        if (pathOf(target) === "/proxy") assert.deepInclude(reply, { status: 200, text: `posted ${target}` })
        else assert.isTrue(reply.status === 404 || (reply.status === 405 && pathOf(target) === "/only"), target)
      }),
    { arbitrary: { runs: 300 } }
  )
})

live("what a handler has begun outlives its client", () =>
  Effect.gen(function*() {
    const begun = Promise.withResolvers<void>()
    const goOn = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<string>()
    const routes = HttpRouter.use((router) =>
      addPath(router, "/slow", {
        GET: () =>
          Effect.promise(() => {
            begun.resolve()
            return goOn.promise
          }).pipe(
            Effect.as(plainText(200, "done")),
            Effect.onExit(({ _tag }) => Effect.sync(() => ended.resolve(_tag)))
          )
      })
    )
    yield* Effect.gen(function*() {
      const connection = yield* openConnection(yield* port)
      connection.write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
      yield* Effect.promise(() => begun.promise)
      connection.socket.resetAndDestroy()
      yield* Effect.promise(() => connection.closed)
      // A reply on another connection: by then the server has seen the reset.
      yield* request("GET", "/nowhere")
      goOn.resolve()
      assert.strictEqual(yield* Effect.promise(() => ended.promise), "Success")
    }).pipe(Effect.provide(serve(Layer.mergeAll(routes, HttpRouter.use(addNotFound)))))
  }))
