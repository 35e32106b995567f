/** Requests: which are taken, which are refused, and how the refusal is said. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { send } from "../../support/GitHub.ts"
import { openConnection } from "../../support/RawConnection.ts"
import { ask, head, idOf, is, next, signed, Sprayproxy, withChunks, withLength } from "./Ingress.ts"

layer(Sprayproxy.layer(["--max-request-size", "1000"]), { excludeTestServices: true })("Expect: 100-continue", (it) => {
  it.effect("is answered when the head is good, and the delivery follows", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const connection = yield* openConnection(port)
      connection.write(head(randomUUID(), [signed("{}"), "Content-Length: 2", "Expect: 100-continue"]))
      assert.strictEqual((yield* next(connection)).status, 100)
      connection.write("{}")
      is(yield* next(connection, 2), 200, "proxied")
      connection.write(withLength(randomUUID(), "{}"))
      is(yield* next(connection, 3), 200, "proxied")
    }))

  it.effect.each([
    { what: "too large", headers: [signed("{}"), "Content-Length: 1001"], status: 413 },
    { what: "unsigned", headers: ["Content-Length: 2"], status: 400 },
    {
      what: "a loop",
      headers: [signed("{}"), "Content-Length: 2", `Via: ${"1.1 sprayproxy-a, ".repeat(5)}`],
      status: 508
    }
  ])("is refused before the body when that is $what", ({ headers, status }) =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const connection = yield* openConnection(port)
      connection.write(head(randomUUID(), [...headers, "Expect: 100-continue"]))
      const reply = yield* next(connection)
      assert.strictEqual(reply.status, status)
      assert.strictEqual(reply.headers["connection"], "close")
    }))
})

layer(Sprayproxy.layer(), { excludeTestServices: true })("one connection", (it) => {
  it.effect("takes requests ahead of the replies, which keep their order", () =>
    Effect.gen(function*() {
      const { backend, port } = yield* Sprayproxy
      const connection = yield* openConnection(port)
      const guids = [randomUUID(), randomUUID(), randomUUID()]
      connection.write([
        withLength(guids[0]!, "{}"),
        head(randomUUID(), [], "/healthz", "GET"),
        withChunks(guids[1]!, "forged", [signed("other")]),
        head(randomUUID(), [], "/nowhere", "GET"),
        withChunks(guids[2]!, "a".repeat(1_000))
      ].join(""))
      const replies = yield* Effect.promise(() => connection.replies(5))
      assert.deepStrictEqual(replies.map(({ text }) => text), [
        "proxied",
        "healthy",
        "bad request",
        "not found",
        "proxied"
      ])
      assert.strictEqual(new Set(replies.map(idOf)).size, 5)
      assert.deepStrictEqual(
        backend.received.map(({ headers }) => headers["x-github-delivery"]).toSorted(),
        [
          guids[0],
          guids[2]
        ].toSorted()
      )
    }))
})

layer(Sprayproxy.layer(), { excludeTestServices: true })("routes", (it) => {
  it.effect.each(
    [
      ["GET", "/", 200, "healthy"],
      ["GET", "/proxy", 200, "healthy"],
      ["GET", "/proxy?x=1", 200, "healthy"],
      ["GET", "/healthz", 200, "healthy"],
      ["GET", "/readyz", 200, "ready"],
      ["GET", "http://sprayproxy.example.com/readyz", 200, "ready"],
      ["PUT", "/proxy", 405, "method not allowed"],
      ["DELETE", "/", 405, "method not allowed"],
      ["POST", "/healthz", 405, "method not allowed"],
      ["POST", "/readyz", 405, "method not allowed"],
      ["POST", "/PROXY", 404, "not found"],
      ["POST", "/proxy/", 404, "not found"],
      ["POST", "//proxy", 404, "not found"],
      ["POST", "//", 404, "not found"],
      ["POST", "/%70roxy", 404, "not found"],
      ["POST", "/proxy;x", 404, "not found"],
      ["POST", "/proxy/x", 404, "not found"],
      ["POST", "/incoming", 404, "not found"],
      ["GET", "/metrics", 404, "not found"],
      ["GET", "/backends", 404, "not found"],
      ["POST", "http://sprayproxy.example.com/PROXY", 404, "not found"]
    ] as const
  )("%s %s is answered %d %s", ([method, target, status, text]) =>
    Effect.gen(function*() {
      const { backend, port } = yield* Sprayproxy
      const headers = method === "POST" ? [signed("{}"), "Content-Length: 2"] : []
      const reply = yield* ask(port, head(randomUUID(), headers, target, method) + (method === "POST" ? "{}" : ""))
      is(reply, status, text)
      assert.strictEqual(reply.headers["content-type"], "text/plain; charset=utf-8")
      const allowed = target === "/healthz" || target === "/readyz" ? "GET" : "GET, POST"
      assert.strictEqual(reply.headers["allow"], status === 405 ? allowed : undefined)
      assert.strictEqual(backend.received.length, 0)
    }))

  it.effect("HEAD is answered as GET, without a body", () =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      for (
        const [path, status, length] of [["/healthz", 200, "7"], ["/proxy", 200, "7"], ["/nowhere", 404, "9"]] as const
      ) {
        const reply = yield* Effect.promise(() => send(port, { method: "HEAD", path }))
        is(reply, status, "")
        assert.strictEqual(reply.headers["content-length"], length)
      }
    }))

  it.effect("a target with an authority is a delivery like any other", () =>
    Effect.gen(function*() {
      const { backend, port } = yield* Sprayproxy
      const target = "http://sprayproxy.example.com/proxy?x=%2F"
      is(yield* ask(port, `${head("absolute", [signed("{}"), "Content-Length: 2"], target)}{}`), 200, "proxied")
      assert.deepInclude(backend.received.at(-1), { url: "/?x=%2F" })
    }))
})
