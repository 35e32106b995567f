import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Http from "node:http"
import { text as textOf } from "node:stream/consumers"
import { onSenderClosed } from "../../src/http/PublicResponse.ts"
import { PublicServer } from "../../src/http/PublicServer.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import { requestIdOf } from "../../src/observability/RequestId.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { RefusalLog } from "../../src/observability/logs/RefusalLog.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { listen } from "../support/Backend.ts"
import { type Reply, send } from "../support/GitHub.ts"
import { openConnection, type RawConnection } from "../support/RawConnection.ts"

const TestLayer = PublicServer.layer.pipe(
  Layer.provideMerge(RefusalLog.layer),
  Layer.provideMerge(Layer.mergeAll(
    Settings.layerFrom({ host: "127.0.0.1", port: 0 }),
    Readiness.layer,
    Log.layerTest
  ))
)

/** The public server on a free port, with a handler of the test's; requests' bodies are read. */
const start = Effect.fnUntraced(function*(
  handler: (request: Http.IncomingMessage, response: Http.ServerResponse) => void = (_, response) => response.end("ok")
) {
  const publicServer = yield* PublicServer
  publicServer.server.on("request", (request, response) => {
    request.resume().on("end", () => handler(request, response))
  })
  const { entries } = yield* LogEntries
  const port = yield* listen(publicServer.server)
  return {
    ...publicServer,
    port,
    refusals: () => entries.filter(({ message }) => message === "refused").map(({ fields }) => fields)
  }
})

/** Handles requests one by one, when the test says so. */
const makeGate = () => {
  const arrived: Array<Http.ServerResponse> = []
  const waiters: Array<(response: Http.ServerResponse) => void> = []
  return {
    handler: (_: Http.IncomingMessage, response: Http.ServerResponse) => {
      const waiter = waiters.shift()
      if (waiter === undefined) arrived.push(response)
      else waiter(response)
    },
    next: Effect.promise(() =>
      new Promise<Http.ServerResponse>((resolve) => {
        const response = arrived.shift()
        if (response === undefined) waiters.push(resolve)
        else resolve(response)
      })
    )
  }
}

const get = (path = "/") => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const requestId = (reply: Reply) => String(reply.headers["x-request-id"])

describe("the id of a request", () => {
  it.live("is on its reply, known to its handler, and another for each", () =>
    Effect.gen(function*() {
      const { port } = yield* start((_, response) => response.end(requestIdOf(response)))
      const connection = yield* openConnection(port)
      connection.write(get(), get())
      const replies = yield* Effect.promise(() => connection.replies(2))
      for (const reply of replies) {
        assert.match(requestId(reply), uuid)
        assert.strictEqual(reply.text, requestId(reply))
      }
      assert.notStrictEqual(requestId(replies[0]!), requestId(replies[1]!))
    }).pipe(Effect.provide(TestLayer)))

  it.live("is none that the client says", () =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const reply = yield* Effect.promise(() => send(port, { headers: { "x-request-id": "mine" } }))
      assert.match(requestId(reply), uuid)
    }).pipe(Effect.provide(TestLayer)))

  /** Each answers 202 with two headers, the body "text" and a phrase, where it can say them. */
  const heads: ReadonlyArray<{
    readonly how: string
    readonly answer: (response: Http.ServerResponse) => unknown
    readonly phrase?: string
    readonly headers?: Record<string, string>
  }> = [
    { how: "with the status", answer: (response) => response.writeHead(202).end("text") },
    {
      how: "with a phrase",
      answer: (response) => response.writeHead(202, "Fine").end("text"),
      phrase: "Fine"
    },
    {
      how: "with an object of headers",
      answer: (response) => response.writeHead(202, { "X-One": "1", "X-Two": "2" }).end("text"),
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "with a phrase and an object of headers",
      answer: (response) => response.writeHead(202, "Fine", { "X-One": "1", "X-Two": "2" }).end("text"),
      phrase: "Fine",
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "with a flat list of headers",
      answer: (response) => response.writeHead(202, ["X-One", "1", "X-Two", "2"]).end("text"),
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "with a phrase and a flat list of headers",
      answer: (response) => response.writeHead(202, "Fine", ["X-One", "1", "X-Two", "2"]).end("text"),
      phrase: "Fine",
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "with headers that were set before",
      answer: (response) => response.setHeader("X-One", "1").setHeader("X-Two", "2").writeHead(202).end("text"),
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "with one that was set before, and an object",
      answer: (response) => response.setHeader("X-One", "1").writeHead(202, "Fine", { "X-Two": "2" }).end("text"),
      phrase: "Fine",
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "with one that was set before, and a flat list",
      answer: (response) => response.setHeader("X-One", "1").writeHead(202, "Fine", ["X-Two", "2"]).end("text"),
      phrase: "Fine",
      headers: { "x-one": "1", "x-two": "2" }
    },
    {
      how: "by the end of the reply",
      answer: (response) => {
        response.statusCode = 202
        response.statusMessage = "Fine"
        response.setHeader("X-One", "1").end("text")
      },
      phrase: "Fine",
      headers: { "x-one": "1" }
    },
    {
      how: "by the end of the reply, with nothing set",
      answer: (response) => {
        response.statusCode = 202
        response.end("text")
      }
    },
    {
      how: "by the first part of the body",
      answer: (response) => {
        response.statusCode = 202
        response.write("te")
        response.end("xt")
      }
    },
    {
      how: "before the body",
      answer: (response) => {
        response.statusCode = 202
        response.flushHeaders()
        response.end("text")
      }
    }
  ]

  it.live.each(heads)(
    "is on a reply whose head is written $how",
    ({ answer, headers = {}, phrase = "Accepted" }) =>
      Effect.gen(function*() {
        const ids: Array<string> = []
        const { port } = yield* start((_, response) => {
          ids.push(requestIdOf(response))
          answer(response)
        })
        const reply = yield* Effect.promise(() =>
          new Promise<Http.IncomingMessage>((resolve, reject) => {
            Http.get({ port, host: "127.0.0.1", agent: false }, resolve).on("error", reject)
          })
        )
        assert.strictEqual(yield* Effect.promise(() => textOf(reply)), "text")
        assert.deepStrictEqual([reply.statusCode, reply.statusMessage], [202, phrase])
        assert.deepInclude(reply.headers, headers)
        // Twice would be read as one value.
        assert.strictEqual(reply.headers["x-request-id"], ids[0])
        assert.match(ids[0]!, uuid)
      }).pipe(Effect.provide(TestLayer))
  )

  it.live("is on a reply that has no body", () =>
    Effect.gen(function*() {
      const { port } = yield* start((request, response) =>
        response.writeHead(request.method === "HEAD" ? 200 : 204).end()
      )
      for (const method of ["HEAD", "GET"]) {
        assert.match(requestId(yield* Effect.promise(() => send(port, { method }))), uuid)
      }
    }).pipe(Effect.provide(TestLayer)))

  it.live.each([
    { what: "a request without a host", request: "GET / HTTP/1.1\r\n\r\n", status: 400 },
    { what: "an expectation unknown", request: "GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", status: 417 }
  ])("is on what Node answers by itself: $what", ({ request, status }) =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(request)
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.strictEqual(reply!.status, status)
      assert.match(requestId(reply!), uuid)
    }).pipe(Effect.provide(TestLayer)))
})

describe("what is no HTTP", () => {
  it.live.each([
    { what: "a TLS handshake", request: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" },
    { what: "nonsense", request: "nonsense\r\n\r\n" },
    { what: "an unknown method", request: "BREW / HTTP/1.1\r\nHost: x\r\n\r\n" },
    { what: "two lengths", request: "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab" },
    {
      what: "a length beside chunks",
      request: "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    },
    { what: "a folded header", request: "GET / HTTP/1.1\r\nHost: x\r\nX: a\n b\rc\r\n\r\n" },
    { what: "the HTTP/2 preface", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" }
  ])("is answered 400 and logged: $what", ({ request }) =>
    Effect.gen(function*() {
      const { port, refusals } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(Buffer.from(request, "latin1"))
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.deepInclude(reply, { status: 400, text: "bad request" })
      assert.strictEqual(reply!.headers["connection"], "close")
      assert.match(requestId(reply!), uuid)
      assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      assert.strictEqual(refusals().length, 1)
      assert.deepInclude(refusals()[0], { reason: "not http", status: 400, "request-id": requestId(reply!) })
    }).pipe(Effect.provide(TestLayer)))

  it.live("is answered 431 when it is a head that is too large, whole, to a client that sends all before it reads", () =>
    Effect.gen(function*() {
      const { port, refusals } = yield* start()
      const connection = yield* openConnection(port, { reading: false })
      yield* Effect.promise(() =>
        connection.sendAll(`GET / HTTP/1.1\r\nHost: x\r\nX: ${"a".repeat(4_000_000)}\r\n\r\n`)
      )
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.strictEqual(reply!.status, 431)
      assert.match(requestId(reply!), uuid)
      assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      assert.strictEqual(refusals().length, 1)
      assert.deepInclude(refusals()[0], { reason: "headers too large", status: 431, "request-id": requestId(reply!) })
    }).pipe(Effect.provide(TestLayer)))

  it.live("does not take the reply of the request before it", () =>
    Effect.gen(function*() {
      const gate = makeGate()
      const { port } = yield* start(gate.handler)
      const connection = yield* openConnection(port)
      connection.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyand more than was announced\r\n\r\n`)
      const response = yield* gate.next
      response.end("mine")
      const replies = yield* Effect.promise(() => connection.replies(2))
      assert.deepStrictEqual(replies.map(({ status, text }) => [status, text]), [[200, "mine"], [400, "bad request"]])
    }).pipe(Effect.provide(TestLayer)))
})

describe("a request to upgrade", () => {
  const upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"

  // Node would wait for the end of a head that it does not read.
  it.live.each([
    {
      what: "that comes with it",
      write: (connection: RawConnection) => connection.write(`${upgrade}nonsense\r\n\r\n`)
    },
    { what: "that may follow", write: (connection: RawConnection) => connection.write(upgrade) }
  ])("is answered, and its connection ended before the nonsense $what", ({ write }) =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const connection = yield* openConnection(port)
      write(connection)
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.deepInclude(reply, { status: 200, text: "ok" })
      assert.strictEqual(reply!.headers["connection"], "close")
      assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
    }).pipe(Effect.provide(TestLayer)))
})

describe("a client that has closed its side", () => {
  it.live("gets the replies that are due, and its connection ends", () =>
    Effect.gen(function*() {
      const gate = makeGate()
      const { idle, port } = yield* start(gate.handler)
      const connection = yield* openConnection(port)
      connection.write(get(), get())
      const first = yield* gate.next
      const second = yield* gate.next
      const heard = Promise.withResolvers<void>()
      onSenderClosed(first, heard.resolve)
      connection.socket.end()
      yield* Effect.promise(() => heard.promise)
      first.end("one")
      second.end("two")
      const replies = yield* Effect.promise(() => connection.replies(2))
      assert.deepStrictEqual(replies.map(({ text }) => text), ["one", "two"])
      assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      yield* idle
    }).pipe(Effect.provide(TestLayer)))

  it.live("is known by then to whoever asks late", () =>
    Effect.gen(function*() {
      const gate = makeGate()
      const { port } = yield* start(gate.handler)
      const connection = yield* openConnection(port)
      connection.write(get())
      const response = yield* gate.next
      for (let times = 0; times < 2; times++) {
        const heard = Promise.withResolvers<void>()
        onSenderClosed(response, heard.resolve)
        if (times === 0) connection.socket.end()
        yield* Effect.promise(() => heard.promise)
      }
      response.end("ok")
      assert.strictEqual((yield* Effect.promise(() => connection.replies(1)))[0]!.text, "ok")
    }).pipe(Effect.provide(TestLayer)))

  it.live("and is owed nothing leaves no connection behind", () =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const used = yield* openConnection(port)
      used.write(get())
      yield* Effect.promise(() => used.replies(1))
      for (const connection of [used, yield* openConnection(port)]) {
        connection.socket.end()
        assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      }
    }).pipe(Effect.provide(TestLayer)))
})

describe("time", () => {
  it.live("ends a head that is not complete in time with 408", () =>
    Effect.gen(function*() {
      const { port, refusals, server } = yield* start()
      assert.strictEqual(server.headersTimeout, 10_000)
      server.headersTimeout = 50
      const connection = yield* openConnection(port)
      connection.write("GET / HTTP/1.1\r\nHost: x\r\nX-Slow:")
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.deepInclude(reply, { status: 408, text: "request timeout" })
      assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      assert.deepInclude(refusals()[0], {
        reason: "request timeout",
        status: 408,
        "request-id": requestId(reply!)
      })
    }).pipe(Effect.provide(TestLayer)))

  // Go's transport, and with it the sidecar, opens connections in advance and keeps them for 90 s.
  it.live("does not end a connection that has not been used yet", () =>
    Effect.gen(function*() {
      const { port, refusals, server } = yield* start()
      server.headersTimeout = 50
      const spare = yield* openConnection(port)
      const slow = yield* openConnection(port)
      slow.write("GET / HTTP/1.1\r\n")
      assert.strictEqual((yield* Effect.promise(() => slow.replies(1)))[0]!.status, 408)
      server.headersTimeout = 10_000
      spare.write(get())
      assert.strictEqual((yield* Effect.promise(() => spare.replies(1)))[0]!.text, "ok")
      assert.strictEqual(refusals().length, 1)
    }).pipe(Effect.provide(TestLayer)))

  it.live("that an idle connection is kept is longer than the sidecar uses one", () =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(get())
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.strictEqual(reply!.headers["keep-alive"], "timeout=120")
    }).pipe(Effect.provide(TestLayer)))
})

describe("the end", () => {
  it.live("closes connections with the replies: to requests under way, and to new ones", () =>
    Effect.gen(function*() {
      const gate = makeGate()
      const { beginDraining, port } = yield* start(gate.handler)
      const { beginDraining: unready } = yield* Readiness
      const [underWay, idle] = yield* Effect.all([openConnection(port), openConnection(port)])
      idle.write(get())
      ;(yield* gate.next).end("before")
      assert.strictEqual((yield* Effect.promise(() => idle.replies(1)))[0]!.headers["connection"], "keep-alive")
      underWay.write(get())
      const response = yield* gate.next
      unready()
      yield* beginDraining
      response.end("under way")
      idle.write(get())
      ;(yield* gate.next).end("after")
      const [first] = yield* Effect.promise(() => underWay.replies(1))
      const [, second] = yield* Effect.promise(() => idle.replies(2))
      for (const [connection, reply] of [[underWay, first], [idle, second]] as const) {
        assert.strictEqual(reply!.headers["connection"], "close")
        assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      }
    }).pipe(Effect.provide(TestLayer)))

  it.live("takes no new connections, but the requests on those that are open, idle ones too", () =>
    Effect.gen(function*() {
      const { port, stopAccepting } = yield* start()
      const used = yield* openConnection(port)
      used.write(get())
      yield* Effect.promise(() => used.replies(1))
      const unused = yield* openConnection(port)
      // An accepted connection may be known to the client first; a reply shows that the server has it.
      unused.write("GET / HTTP/1.1\r\n")
      const other = yield* openConnection(port)
      other.write(get())
      yield* Effect.promise(() => other.replies(1))
      yield* stopAccepting
      const refused = yield* Effect.flip(Effect.tryPromise(() => send(port)))
      assert.include(String(refused.cause), "ECONNREFUSED")
      used.write(get())
      unused.write("Host: x\r\n\r\n")
      assert.strictEqual((yield* Effect.promise(() => used.replies(2))).length, 2)
      assert.strictEqual((yield* Effect.promise(() => unused.replies(1))).length, 1)
    }).pipe(Effect.provide(TestLayer)))

  it.live("waits for replies, and for nothing when none is due", () =>
    Effect.gen(function*() {
      const gate = makeGate()
      const { idle, port } = yield* start(gate.handler)
      yield* idle
      const connections = yield* Effect.all([openConnection(port), openConnection(port)])
      for (const connection of connections) connection.write(get())
      const first = yield* gate.next
      const second = yield* gate.next
      const waiting = yield* Effect.forkChild(idle, { startImmediately: true })
      first.end()
      yield* Effect.promise(() => connections[0].replies(1))
      assert.isUndefined(waiting.pollUnsafe())
      // A client that has gone gets no reply, and nobody waits for it.
      connections[1].socket.resetAndDestroy()
      yield* Fiber.join(waiting)
      assert.isTrue(second.destroyed)
    }).pipe(Effect.provide(TestLayer)))

  it.live("cuts off what is left", () =>
    Effect.gen(function*() {
      const gate = makeGate()
      const { closeConnections, idle, port } = yield* start(gate.handler)
      const connection = yield* openConnection(port)
      connection.write(get())
      yield* gate.next
      yield* closeConnections
      yield* Effect.promise(() => connection.closed)
      yield* idle
    }).pipe(Effect.provide(TestLayer)))
})

it.live("listens for Effect's server where the settings say", () =>
  Effect.gen(function*() {
    yield* HttpServer.serveEffect(Effect.succeed(HttpServerResponse.text("effect")))
    const { address } = yield* HttpServer.HttpServer
    assert.include(HttpServer.formatAddress(address), "http://127.0.0.1:")
    const reply = yield* Effect.promise(() => send(Number(new URL(HttpServer.formatAddress(address)).port)))
    assert.strictEqual(reply.text, "effect")
    assert.match(requestId(reply), uuid)
  }).pipe(Effect.provide(PublicServer.layerHttpServer.pipe(Layer.provideMerge(TestLayer)))))
