import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Http from "node:http"
import type { Socket } from "node:net"
import { answerEarly } from "../../src/http/EarlyAnswer.ts"
import { openConnection } from "../support/RawConnection.ts"

const KiB = 1024
const MiB = 1024 * KiB

/** A server that answers every request early, and tells what became of it. */
const start = Effect.fnUntraced(function*(status = 413, headers?: Readonly<Record<string, string>>) {
  const sockets: Array<Socket> = []
  const answered: Array<(status: number) => void> = []
  const server = Http.createServer((request) => void sockets.push(request.socket))
  const http = yield* NodeHttpServer.make(() => server, { port: 0, host: "127.0.0.1" })
  const app = Effect.gen(function*() {
    const response = yield* answerEarly(yield* HttpServerRequest, status, "no", headers).pipe(
      Effect.ensuring(Effect.sync(() => answered.shift()?.(status)))
    )
    return response
  })
  yield* http.serve(app)
  return {
    port: Number(new URL(HttpServer.formatAddress(http.address)).port),
    socket: (index: number) => sockets[index]!,
    /** Resolves when the next request is dealt with, its body too. */
    nextDealtWith: () => new Promise<number>((resolve) => answered.push(resolve))
  }
})

const head = (...headers: ReadonlyArray<string>) => `POST / HTTP/1.1\r\nHost: x\r\n${headers.join("\r\n")}\r\n\r\n`

describe("an early answer", () => {
  it.live.each(["content-length", "chunked"])(
    "arrives whole at a client that sends 30 MB before it reads (%s), and closes the connection",
    (framing) =>
      Effect.gen(function*() {
        const { port } = yield* start(413, { "retry-after": "10" })
        const connection = yield* openConnection(port, { reading: false })
        const body = Buffer.alloc(30_000_000, "a")
        connection.write(
          framing === "chunked"
            ? `${head("Transfer-Encoding: chunked")}${body.length.toString(16)}\r\n`
            : head(`Content-Length: ${body.length}`)
        )
        yield* Effect.promise(() => connection.sendAll(body))
        if (framing === "chunked") yield* Effect.promise(() => connection.sendAll("\r\n0\r\n\r\n"))
        const [reply] = yield* Effect.promise(() => connection.replies(1))
        assert.deepInclude(reply, { status: 413, text: "no" })
        assert.deepInclude(reply!.headers, {
          "connection": "close",
          "retry-after": "10",
          "content-length": "2",
          "content-type": "text/plain; charset=utf-8"
        })
        assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      })
  )

  it.live("arrives before the client has sent the rest", () =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(head(`Content-Length: ${10 * MiB}`))
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.deepInclude(reply, { status: 413, text: "no" })
    }))

  it.live("has no body when nobody asked for one", () =>
    Effect.gen(function*() {
      const { port } = yield* start(404)
      const connection = yield* openConnection(port)
      connection.write(`HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: ${MiB}\r\n\r\n`, Buffer.alloc(MiB))
      yield* Effect.promise(() => connection.closed)
      const text = yield* Effect.promise(() => connection.replies(1).then(() => "a body", String))
      assert.match(text, /404 Not Found(?!.*no")/)
    }))

  it.live.each([
    { what: "no body", request: head() },
    { what: "an empty body", request: head("Content-Length: 0") },
    { what: "a short body", request: head("Content-Length: 5") + "hello" },
    { what: "a body of 256 KiB", request: head(`Content-Length: ${256 * KiB}`) + "a".repeat(256 * KiB) }
  ])("keeps the connection after $what", ({ request }) =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(request, request)
      const replies = yield* Effect.promise(() => connection.replies(2))
      for (const reply of replies) {
        assert.deepInclude(reply, { status: 413, text: "no" })
        assert.strictEqual(reply.headers["connection"], "keep-alive")
      }
    }))

  it.live("closes the connection of a client that waits with its body for our word", () =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(head("Content-Length: 5", "Expect: 100-continue"))
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.deepInclude(reply, { status: 413, text: "no" })
      assert.strictEqual(reply!.headers["connection"], "close")
    }))

  // RFC 9110 §15.5.9.
  it.live("closes the connection of a client that was too slow, however short its body is", () =>
    Effect.gen(function*() {
      const { port } = yield* start(408)
      const connection = yield* openConnection(port)
      connection.write(head("Content-Length: 5"))
      const [reply] = yield* Effect.promise(() => connection.replies(1))
      assert.strictEqual(reply!.headers["connection"], "close")
      yield* Effect.promise(() => connection.closed)
    }))

  it.live("is no reason to take more than 32 MiB", () =>
    Effect.gen(function*() {
      const { port, socket } = yield* start()
      const connection = yield* openConnection(port)
      connection.write(head("Content-Length: 1000000000"))
      yield* Effect.promise(() => connection.replies(1))
      const more = () => {
        for (let i = 0; i < 64 && !connection.socket.destroyed; i++) connection.socket.write(Buffer.alloc(MiB))
      }
      more()
      yield* Effect.promise(() => connection.closed)
      assert.isAtLeast(socket(0).bytesRead, 32 * MiB)
      assert.isBelow(socket(0).bytesRead, 34 * MiB)
    }))

  it.live("waits for a client that has fallen silent 2 s and no longer", () =>
    Effect.gen(function*() {
      const { nextDealtWith, port } = yield* start()
      const connection = yield* openConnection(port)
      const dealtWith = nextDealtWith()
      const before = performance.now()
      connection.write(head(`Content-Length: ${MiB}`), "hello")
      yield* Effect.promise(() => dealtWith)
      assert.isAtLeast(performance.now() - before, 1_990)
      yield* Effect.promise(() => connection.closed)
    }))

  it.live("waits for nobody who has gone", () =>
    Effect.gen(function*() {
      const { nextDealtWith, port } = yield* start()
      const connection = yield* openConnection(port)
      const dealtWith = nextDealtWith()
      connection.write(head(`Content-Length: ${MiB}`), "hello")
      yield* Effect.promise(() => connection.replies(1))
      const before = performance.now()
      connection.socket.resetAndDestroy()
      yield* Effect.promise(() => dealtWith)
      assert.isBelow(performance.now() - before, 1_900)
    }))
})
