/** The lengths of bodies: which are taken, which are refused, and how the refusal is said. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { openConnection } from "../../support/RawConnection.ts"
import { ask, head, idOf, is, isForwarded, next, signed, Sprayproxy, withChunks, withLength } from "./Ingress.ts"

const MiB = 1024 * 1024

layer(Sprayproxy.layer(["--max-request-size", "1000"]), { excludeTestServices: true })("the cap", (it) => {
  it.effect.each([
    { framing: "with its length", frame: withLength },
    { framing: "chunked", frame: withChunks }
  ])("is inclusive, for a body $framing", ({ frame }) =>
    Effect.gen(function*() {
      const { backend, port } = yield* Sprayproxy
      const body = "a".repeat(1_000)
      is(yield* ask(port, frame(randomUUID(), body)), 200, "proxied")
      assert.strictEqual(backend.received.at(-1)!.body.toString(), body)
      const guid = randomUUID()
      is(yield* ask(port, frame(guid, `${body}a`)), 413, "request body too large")
      assert.isFalse(yield* isForwarded(guid))
    }))

  it.effect("is kept on the head alone where that tells the length, whatever the signature", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      is(yield* ask(port, head(randomUUID(), ["Content-Length: 1001"])), 413, "request body too large")
    }))

  it.effect("comes after the signature's form where the head does not tell the length", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      is(yield* ask(port, withChunks(randomUUID(), "a".repeat(1_001), [])), 400, "bad request")
    }))

  it.effect("leaves the connection to the next request where little was unread", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const connection = yield* openConnection(port)
      connection.write(withLength(randomUUID(), "a".repeat(1_001)), withLength(randomUUID(), "{}"))
      is(yield* next(connection), 413, "request body too large")
      is(yield* next(connection, 2), 200, "proxied")
    }))
})

layer(Sprayproxy.layer(), { excludeTestServices: true })("the cap by default", (it) => {
  it.effect.each(["content-length", "chunked"] as const)(
    "is 25 MiB, inclusive (%s)",
    (framing) =>
      Effect.gen(function*() {
        const { backend, port } = yield* Sprayproxy
        const tooLarge = Buffer.alloc(25 * MiB + 1, "a")
        const post = Effect.fnUntraced(function*(body: Buffer) {
          const connection = yield* openConnection(port)
          connection.write(head(randomUUID(), [
            signed(body),
            framing === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`
          ]))
          if (framing === "chunked") connection.write(`${body.length.toString(16)}\r\n`)
          connection.write(body)
          if (framing === "chunked") connection.write("\r\n0\r\n\r\n")
          return yield* next(connection)
        }, Effect.scoped)
        is(yield* post(tooLarge.subarray(1)), 200, "proxied")
        assert.isTrue(backend.received.at(-1)!.body.equals(tooLarge.subarray(1)))
        const before = backend.received.length
        is(yield* post(tooLarge), 413, "request body too large")
        assert.strictEqual(backend.received.length, before)
      })
  )
})

layer(Sprayproxy.layer(), { excludeTestServices: true })("an early answer", (it) => {
  const big = Buffer.alloc(30_000_000, "a")

  it.effect.each([
    { what: "413", status: 413, target: "/proxy", headers: [signed("x"), `Content-Length: ${big.length}`] },
    { what: "413 in the middle", status: 413, target: "/proxy", headers: [signed("x"), "Transfer-Encoding: chunked"] },
    { what: "400", status: 400, target: "/proxy", headers: ["Transfer-Encoding: chunked"] },
    { what: "404", status: 404, target: "/nowhere", headers: [`Content-Length: ${big.length}`] },
    { what: "404 for what is no path", status: 404, target: "/%", headers: [`Content-Length: ${big.length}`] },
    { what: "405", status: 405, target: "/readyz", headers: [`Content-Length: ${big.length}`] }
  ])(
    "arrives whole at a client that sends all before it reads: $what",
    ({ headers, status, target }) =>
      Effect.gen(function*() {
        const { port } = yield* Sprayproxy
        const connection = yield* openConnection(port, { reading: false })
        const isChunked = headers.includes("Transfer-Encoding: chunked")
        connection.write(head(randomUUID(), headers, target), isChunked ? `${big.length.toString(16)}\r\n` : "")
        yield* Effect.promise(() => connection.sendAll(big))
        if (isChunked) yield* Effect.promise(() => connection.sendAll("\r\n0\r\n\r\n"))
        const reply = yield* next(connection)
        assert.strictEqual(reply.status, status)
        assert.strictEqual(reply.headers["connection"], "close")
        idOf(reply)
        assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      })
  )
})

layer(Sprayproxy.layer(["--max-request-size", "1000"]), { excludeTestServices: true })("a length that lies", (it) => {
  it.effect("by too little makes a body that was not signed, and the rest no HTTP", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const guid = randomUUID()
      const connection = yield* openConnection(port)
      connection.write(head(guid, [signed("{}and the rest"), "Content-Length: 2"]), "{}and the rest\r\n\r\n")
      assert.strictEqual((yield* next(connection)).status, 400)
      assert.strictEqual(yield* Effect.promise(() => connection.closed), "ended")
      assert.isFalse(yield* isForwarded(guid))
    }))

  it.effect("by too little smuggles nothing in: the rest is a request that needs its own signature", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const guid = randomUUID()
      const connection = yield* openConnection(port)
      connection.write(withLength(randomUUID(), "{}") + withLength(guid, "{}", []))
      is(yield* next(connection), 200, "proxied")
      is(yield* next(connection, 2), 400, "bad request")
      assert.isFalse(yield* isForwarded(guid))
    }))

  it.effect("by too much is never a delivery, even if what came was signed", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const guid = randomUUID()
      const connection = yield* openConnection(port)
      connection.write(head(guid, [signed("{}"), "Content-Length: 3"]), "{}")
      connection.socket.end()
      yield* Effect.promise(() => connection.closed)
      assert.isFalse(yield* isForwarded(guid))
    }))

  it.effect("beside chunks, or twice, is no HTTP", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      for (const more of ["Transfer-Encoding: chunked", "Content-Length: 3", "Content-Length: +2"]) {
        const guid = randomUUID()
        const reply = yield* ask(port, `${head(guid, [signed("{}"), "Content-Length: 2", more])}2\r\n{}\r\n0\r\n\r\n`)
        is(reply, 400, "bad request")
        assert.isFalse(yield* isForwarded(guid))
      }
    }))
})
