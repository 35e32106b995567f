/** What is taken in and what is not, and how that is said. */
import { assert, describe, layer, live } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHmac, randomUUID } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import type * as Http from "node:http"
import { tmpdir } from "node:os"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, type Reply, secret, send } from "../../support/GitHub.ts"
import { type LogLine, type Program, startProgram } from "../../support/Program.ts"
import { openConnection, type RawConnection } from "../../support/RawConnection.ts"

const MiB = 1024 * 1024

const digest = (body: string | Buffer, key = secret) => createHmac("sha256", key).update(body).digest("hex")
const signed = (body: string | Buffer, key = secret) => `X-Hub-Signature-256: sha256=${digest(body, key)}`

const head = (guid: string, headers: ReadonlyArray<string>, target = "/proxy", method = "POST") =>
  [`${method} ${target} HTTP/1.1`, "Host: x", `X-GitHub-Delivery: ${guid}`, ...headers, "", ""].join("\r\n")

const withLength = (guid: string, body: string, headers: ReadonlyArray<string> = [signed(body)]) =>
  head(guid, [...headers, `Content-Length: ${Buffer.byteLength(body)}`]) + body

const chunked = (body: string, size = 100) =>
  `${
    Array.from({ length: Math.ceil(body.length / size) }, (_, i) => body.slice(i * size, (i + 1) * size)).map((chunk) =>
      `${chunk.length.toString(16)}\r\n${chunk}\r\n`
    ).join("")
  }0\r\n\r\n`

const withChunks = (guid: string, body: string, headers: ReadonlyArray<string> = [signed(body)]) =>
  head(guid, [...headers, "Transfer-Encoding: chunked"]) + chunked(body)

const next = (connection: RawConnection, count = 1) =>
  Effect.map(Effect.promise(() => connection.replies(count)), (replies) => replies.at(-1)!)

const ask = Effect.fnUntraced(function*(port: number, request: string) {
  const connection = yield* openConnection(port)
  connection.write(Buffer.from(request, "latin1"))
  return yield* next(connection)
}, Effect.scoped)

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const idOf = (reply: Reply) => {
  assert.match(String(reply.headers["x-request-id"]), uuid)
  return reply.headers["x-request-id"] as string
}

/** The log line of a request, by its reply. */
const isOf = (reply: Reply) => (line: LogLine) => line["request-id"] === idOf(reply)

const is = (reply: Reply, status: number, text: string) => {
  assert.deepInclude(reply, { status, text })
  idOf(reply)
}

class Sprayproxy extends Context.Service<Sprayproxy, {
  readonly program: Program
  readonly port: number
  readonly backend: TestBackend
}>()("sprayproxy/test/e2e/webhook/ingress.test/Sprayproxy") {
  static readonly layer = (args: ReadonlyArray<string> = [], env: Readonly<Record<string, string>> = {}) =>
    Layer.effect(
      Sprayproxy,
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const program = yield* startProgram(["--backend", backend.url, ...args], env)
        return { program, port: program.port, backend }
      })
    )
}

/** Whether the backend has got it; asked after a delivery that surely came later. */
const isForwarded = Effect.fnUntraced(function*(guid: string) {
  const { backend, port } = yield* Sprayproxy
  is(yield* Effect.promise(() => deliver(port, "{}")), 200, "proxied")
  return backend.received.some(({ headers }) => headers["x-github-delivery"] === guid)
})

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

layer(Sprayproxy.layer(), { excludeTestServices: true })("a signature", (it) => {
  const body = "{}"
  const sha1 = `X-Hub-Signature: sha1=${createHmac("sha1", secret).update(body).digest("hex")}`

  it.effect.each([
    { what: "missing", headers: [] },
    { what: "empty", headers: ["X-Hub-Signature-256:"] },
    { what: "SHA-1 only", headers: [sha1] },
    { what: "SHA-1 under the name of SHA-256", headers: [sha1.replace("Signature", "Signature-256")] },
    { what: "without its prefix", headers: [`X-Hub-Signature-256: ${digest(body)}`] },
    { what: "a digit short", headers: [signed(body).slice(0, -1)] },
    { what: "a digit long", headers: [`${signed(body)}0`] },
    { what: "no hex", headers: [`${signed(body).slice(0, -1)}g`] },
    { what: "there twice", headers: [signed(body), signed(body)] },
    { what: "there twice, once forged", headers: [signed("other"), signed(body)] },
    { what: "of another body", headers: [signed("other")] },
    { what: "with another secret", headers: [signed(body, "other")] },
    { what: "with an empty secret", headers: [signed(body, " ").replace(digest(body, " "), digest(body, ""))] }
  ])("is refused when it is $what", ({ headers }) =>
    Effect.gen(function*() {
      const { port } = yield* Sprayproxy
      const guid = randomUUID()
      is(yield* ask(port, withLength(guid, body, headers)), 400, "bad request")
      assert.isFalse(yield* isForwarded(guid))
    }))

  it.effect("may have its digits in upper case, and goes on as it came", () =>
    Effect.gen(function*() {
      const { backend, port } = yield* Sprayproxy
      const signature = `sha256=${digest(body).toUpperCase()}`
      is(yield* ask(port, withLength(randomUUID(), body, [`x-hub-SIGNATURE-256: ${signature}`])), 200, "proxied")
      assert.strictEqual(backend.received.at(-1)!.headers["x-hub-signature-256"], signature)
    }))
})

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(`${tmpdir()}/sprayproxy-`)),
  (path) => Effect.promise(() => rm(path, { recursive: true }))
)

describe("secrets", () => {
  live("may be two while one is rotated, and the variable is none of them", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* Effect.promise(() => writeFile(`${directory}/old`, "the old one\n"))
      yield* Effect.promise(() => writeFile(`${directory}/new`, "the new one"))
      const files = ["--webhook-secret-file", `${directory}/old`, "--webhook-secret-file", `${directory}/new`]
      const backend = yield* startBackend()
      const { port } = yield* startProgram(["--backend", backend.url, ...files])
      const post = (key: string) => ask(port, withLength(randomUUID(), "{}", [signed("{}", key)]))
      is(yield* post("the old one"), 200, "proxied")
      is(yield* post("the new one"), 200, "proxied")
      is(yield* post("the old one\n"), 400, "bad request")
      is(yield* post(secret), 400, "bad request")
    }))

  live(
    "are waited for: without one nothing is taken and nobody is sent here, with one everything is",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const backend = yield* startBackend()
        const file = `${directory}/secret`
        const args = ["--backend", backend.url, "--webhook-secret-file", file]
        const program = yield* startProgram(args, { GH_APP_WEBHOOK_SECRET: "" })
        const probe = () => Effect.promise(() => send(program.port, { method: "GET", path: "/readyz" }))
        is(yield* probe(), 503, "no secret")
        const refused = yield* ask(program.port, withLength(randomUUID(), "{}"))
        is(refused, 503, "no secret")
        assert.strictEqual(refused.headers["retry-after"], "10")
        const line = yield* Effect.promise(() => program.logged(isOf(refused)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason: "no secret", status: 503 })
        is(yield* ask(program.port, withLength(randomUUID(), "{}", [signed("{}", " ")])), 503, "no secret")
        yield* Effect.promise(() => writeFile(file, secret))
        yield* Effect.promise(() => program.logged(({ msg }) => msg === "webhook secret loaded"))
        is(yield* probe(), 200, "ready")
        is(yield* ask(program.port, withLength(randomUUID(), "{}")), 200, "proxied")
      })
  )

  live("are not needed by a program that is told not to verify", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const args = ["--backend", backend.url, "--insecure-skip-webhook-verify"]
      const { logs, port } = yield* startProgram(args, { GH_APP_WEBHOOK_SECRET: "" })
      is(yield* Effect.promise(() => send(port, { method: "GET", path: "/readyz" })), 200, "ready")
      is(yield* ask(port, withLength(randomUUID(), "{}", [])), 200, "proxied")
      is(yield* ask(port, withLength(randomUUID(), "{}", [signed("other")])), 200, "proxied")
      assert.isTrue(logs.some(({ level, msg }) => level === "warn" && msg.includes("--insecure-skip-webhook-verify")))
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

describe("memory", () => {
  live("that is full makes deliveries wait until their reply is due, and no longer", () =>
    Effect.gen(function*() {
      const unanswered: Array<Http.ServerResponse> = []
      const backend = yield* startBackend((_, response) => void unanswered.push(response))
      const memory = ["--body-memory", "1MiB", "--reply-deadline", "300ms"]
      const program = yield* startProgram(["--backend", backend.url, ...memory])
      const large = "a".repeat(900_000)
      const post = (body: string) => ask(program.port, withLength(randomUUID(), body))
      // The second goes beyond the budget, and only one may.
      is(yield* post(large), 202, "accepted")
      is(yield* post(large), 202, "accepted")
      for (const body of [large, "{}"]) {
        const refused = yield* post(body)
        is(refused, 503, "overloaded")
        assert.strictEqual(refused.headers["retry-after"], "10")
        const line = yield* Effect.promise(() => program.logged(isOf(refused)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason: "overloaded", status: 503 })
        assert.isAtLeast(Number(line["latency"]), 0.29)
      }
      assert.strictEqual(backend.received.length, 2)
      for (const response of unanswered.splice(0)) response.writeHead(202).end()
      const delivered = () => program.logs.filter(({ msg }) => msg === "proxied request").length === 2
      yield* Effect.promise(() => program.logged(delivered))
      is(yield* post(large), 202, "accepted")
    }))
})

describe("a sender that is too slow", () => {
  live("is cut with 408 and holds its connection no longer", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const slow = Effect.fnUntraced(function*(request: string, reason: string, leastSeconds: number) {
        const startedAt = performance.now()
        const connection = yield* openConnection(program.port)
        connection.write(request)
        const reply = yield* next(connection)
        assert.isAtLeast(performance.now() - startedAt, leastSeconds * 1_000)
        is(reply, 408, "request timeout")
        assert.strictEqual(reply.headers["connection"], "close")
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason, status: 408 })
        yield* Effect.promise(() => connection.closed)
      })
      const body = [signed("{}"), "X-GitHub-Event: push"]
      yield* Effect.all([
        slow(`${head("a", [...body, "Content-Length: 1000"])}hello`, "sender too slow", 4.9),
        slow(`${head("b", [...body, "Content-Length: 1000000"])}hello`, "sender too slow", 4.9),
        slow(`${head("c", [...body, "Transfer-Encoding: chunked"])}5\r\nhello\r\n`, "sender too slow", 4.9),
        slow(head("d", [...body, "Content-Length: 5"]), "sender too slow", 4.9),
        slow(head("e", body).slice(0, -2), "request timeout", 9.9)
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual(
        program.logs.filter(({ reason }) => reason === "sender too slow").map(({ delivery }) => delivery).toSorted(),
        ["a", "b", "c", "d"]
      )
      assert.strictEqual(backend.received.length, 0)
      is(yield* Effect.promise(() => deliver(program.port, "{}")), 200, "proxied")
    }))
})

describe("the log of what is refused", () => {
  const payload = "{\"payload\":\"nobody may read this in a log\"}"
  const large = payload.padEnd(1_001)

  live("says why, and what was refused, and never a secret, a signature or a payload", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const args = ["--backend", backend.url, "--max-request-size", "1000", "--log-level", "debug"]
      const program = yield* startProgram(args)
      const event = "X-GitHub-Event: push"
      const forged = "f".repeat(64)
      const refusals = [
        ["signature missing", 400, withLength("1", payload, [event])],
        ["signature malformed", 400, withLength("2", payload, [event, `${signed(payload)}, ${signed(payload)}`])],
        ["signature mismatch", 400, withLength("3", payload, [event, `X-Hub-Signature-256: sha256=${forged}`])],
        ["body too large", 413, withLength("4", large, [event, signed(large)])],
        ["body too large", 413, withChunks("5", large, [event, signed(large)])],
        ["loop", 508, withLength("6", payload, [event, signed(payload), `Via: ${"1.1 sprayproxy-a, ".repeat(5)}`])]
      ] as const
      for (const [i, [reason, status, request]] of refusals.entries()) {
        const reply = yield* ask(program.port, request)
        assert.strictEqual(reply.status, status)
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.deepInclude(line, {
          level: "warn",
          msg: "refused",
          reason,
          status,
          delivery: String(i + 1),
          event: "push",
          method: "POST",
          path: "/proxy",
          query: ""
        })
        assert.isAtLeast(Number(line["latency"]), 0)
      }
      for (
        const [reason, status, request] of [
          ["not http", 400, `\x16\x03\x01${payload}\r\n\r\n`],
          ["not http", 400, `${head("7", [signed(payload), "Transfer-Encoding: chunked"])}${payload}\r\n`],
          ["headers too large", 431, head("8", [signed(payload), `X-Large: ${payload.repeat(1_000)}`])]
        ] as const
      ) {
        const reply = yield* ask(program.port, request)
        assert.strictEqual(reply.status, status)
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.deepInclude(line, { level: "warn", msg: "refused", reason, status })
      }
      is(yield* ask(program.port, withLength("9", payload)), 200, "proxied")
      yield* Effect.promise(() => program.logged(({ msg }) => msg === "delivery answered"))

      const all = JSON.stringify(program.logs) + program.stderr()
      assert.notInclude(all, secret)
      assert.notInclude(all, "nobody may read this")
      for (const signature of [forged, digest(payload), digest(large)]) {
        assert.notInclude(all.toLowerCase(), signature)
        assert.notInclude(all, Buffer.from(signature, "hex").toString("base64"))
      }
    }))

  live(
    "takes nothing from a sender that is long, or that could break the line or steer a terminal",
    () =>
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const program = yield* startProgram(["--backend", backend.url])
        const written: Array<Buffer> = []
        program.process.stdout!.on("data", (chunk: Buffer) => written.push(chunk))
        const bad = "\"\\\x9b31m\x85\x7f\x90"
        const reply = yield* ask(
          program.port,
          [
            `POST /proxy?${"q".repeat(1_000)} HTTP/1.1`,
            "Host: x",
            `X-GitHub-Delivery: ${bad.replace("\x7f", "")}${"d".repeat(1_000)}`,
            `X-GitHub-Event: ${"\xe9".repeat(1_000)}`,
            "Content-Length: 2",
            "",
            "{}"
          ].join("\r\n")
        )
        assert.strictEqual(reply.status, 400)
        const line = yield* Effect.promise(() => program.logged(isOf(reply)))
        assert.strictEqual(line["query"], "q".repeat(256))
        assert.strictEqual(line["event"], "\xe9".repeat(256))
        assert.strictEqual(String(line["delivery"]).length, 256)
        assert.isTrue(String(line["delivery"]).startsWith("\"\\\x9b31m"))
        const text = Buffer.concat(written).toString("utf8")
        // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
        assert.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/)
        assert.strictEqual(text.trimEnd().split("\n").length, 1)
      })
  )
})
