/** Clients that hang up: GitHub does after 10 s, and anybody may at any time. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHmac, randomUUID } from "node:crypto"
import * as Http from "node:http"
import { buffer } from "node:stream/consumers"
import { listen, startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, secret, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { openConnection } from "../../support/RawConnection.ts"

const hangUps = ["destroy", "resetAndDestroy"] as const

const signature = (body: string | Buffer) => `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`

const head = (guid: string, body: string | Buffer, length = Buffer.byteLength(body)) =>
  [
    "POST /proxy HTTP/1.1",
    "Host: x",
    `X-GitHub-Delivery: ${guid}`,
    "X-GitHub-Event: push",
    `X-Hub-Signature-256: ${signature(body)}`,
    `Content-Length: ${length}`,
    "",
    ""
  ].join("\r\n")

const isHealthy = Effect.fnUntraced(function*(program: Program) {
  const ready = yield* Effect.promise(() => send(program.port, { method: "GET", path: "/readyz" }))
  assert.deepInclude(ready, { status: 200, text: "ready" })
})

/** A backend that answers only when it is told to. */
const startHeldBackend = Effect.gen(function*() {
  const held: Array<Http.ServerResponse> = []
  let isHolding = true
  const backend = yield* startBackend((_, response) => {
    if (isHolding) held.push(response)
    else response.writeHead(202).end()
  })
  return {
    ...backend,
    received: backend.received,
    hold: () => {
      isHolding = true
    },
    letGo: () => {
      isHolding = false
      for (const response of held.splice(0)) response.writeHead(202).end()
    }
  }
})

/** Fills 1 MiB: fifteen of these have room beside each other, and one may go beyond. */
const filling = Array.from({ length: 16 }, () => "a".repeat(30_000))

/** If only 46 kB had leaked, one of these deliveries would wait for them until its reply is due. */
const holdsNoMemory = Effect.fnUntraced(function*(
  program: Program,
  backend: TestBackend & { readonly hold: () => void; readonly letGo: () => void }
) {
  backend.hold()
  const before = backend.received.length
  const replies = Promise.all(filling.map((body) => deliver(program.port, body)))
  yield* Effect.promise(() => Promise.race([backend.receivedAtLeast(before + filling.length), replies]))
  assert.strictEqual(backend.received.length, before + filling.length)
  backend.letGo()
  for (const reply of yield* Effect.promise(() => replies)) {
    assert.deepInclude(reply, { status: 200, text: "proxied" })
  }
})

describe("a client that hangs up", () => {
  it.live.each(hangUps)("before its head is complete is forgotten (%s)", (hangUp) =>
    Effect.gen(function*() {
      const backend = yield* startHeldBackend
      const program = yield* startProgram(["--backend", backend.url, "--body-memory", "1MiB"])
      const guid = randomUUID()
      for (const part of ["", "P", head(guid, "{}").slice(0, 40), head(guid, "{}").slice(0, -1)]) {
        const connection = yield* openConnection(program.port)
        if (part !== "") yield* Effect.promise(() => connection.sendAll(part))
        connection.socket[hangUp]()
        yield* Effect.promise(() => connection.closed)
      }
      yield* isHealthy(program)
      yield* holdsNoMemory(program, backend)
      assert.isFalse(backend.received.some(({ headers }) => headers["x-github-delivery"] === guid))
    }))

  it.live.each(hangUps)(
    "in the middle of the body leaves no delivery and no memory behind (%s)",
    (hangUp) =>
      Effect.gen(function*() {
        const backend = yield* startHeldBackend
        const program = yield* startProgram(["--backend", backend.url, "--body-memory", "1MiB"])
        // Together more than the budget: some of them wait for memory when they hang up.
        const connections = yield* Effect.forEach(Array.from({ length: 8 }), () =>
          Effect.gen(function*() {
            const connection = yield* openConnection(program.port)
            const body = "b".repeat(200_000)
            connection.write(head("cut off", body, body.length + 1), body)
            return connection
          }))
        // The last of them has been read as far as it will be when one that came after it has been.
        yield* isHealthy(program)
        for (const connection of connections) connection.socket[hangUp]()
        yield* Effect.promise(() => Promise.all(connections.map(({ closed }) => closed)))
        yield* isHealthy(program)
        yield* holdsNoMemory(program, backend)
        assert.isFalse(backend.received.some(({ headers }) => headers["x-github-delivery"] === "cut off"))
      })
  )

  it.live.each(hangUps)(
    "in the middle of the body is logged with its delivery (%s)",
    (hangUp) =>
      Effect.gen(function*() {
        const program = yield* startProgram(["--backend", "http://127.0.0.1:1"])
        const connection = yield* openConnection(program.port)
        // The interim reply shows that the head has been read.
        connection.write(head("cut off", "{}", 1_000).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"), "{}")
        assert.strictEqual((yield* Effect.promise(() => connection.replies(1)))[0]!.status, 100)
        connection.socket[hangUp]()
        const line = yield* Effect.promise(() => program.logged(({ msg }) => msg === "refused"))
        assert.deepInclude(line, { level: "warn", reason: "body cut off", delivery: "cut off", event: "push" })
        yield* isHealthy(program)
        assert.strictEqual(program.logs.filter(({ msg }) => msg === "refused").length, 1)
      })
  )

  it.live.each(hangUps)("after the body takes nothing away from the backends (%s)", (hangUp) =>
    Effect.gen(function*() {
      const quick = yield* startBackend()
      const arrived = Promise.withResolvers<void>()
      const goOn = Promise.withResolvers<void>()
      const whole = Promise.withResolvers<Buffer>()
      // Reads nothing of the body before the client has hung up.
      const slow = yield* listen(Http.createServer(async (request, response) => {
        arrived.resolve()
        await goOn.promise
        whole.resolve(await buffer(request))
        response.writeHead(202).end()
      }))
      const program = yield* startProgram(["--backend", `${quick.url},http://127.0.0.1:${slow}`])
      const body = Buffer.alloc(20_000_000, "c")
      const connection = yield* openConnection(program.port)
      connection.write(head("hung up", body), body)
      yield* Effect.promise(() => arrived.promise)
      yield* Effect.promise(() => quick.receivedAtLeast(1))
      connection.socket[hangUp]()
      const line = yield* Effect.promise(() => program.logged(({ msg }) => msg.includes("hung up")))
      assert.deepInclude(line, { level: "warn", delivery: "hung up", event: "push" })
      goOn.resolve()
      assert.isTrue(body.equals(yield* Effect.promise(() => whole.promise)))
      assert.isTrue(body.equals(quick.received[0]!.body))
      const attempt = yield* Effect.promise(() =>
        program.logged(({ backend, msg }) => msg === "proxied request" && backend === `127.0.0.1:${slow}`)
      )
      assert.deepInclude(attempt, { outcome: "delivered", status: 202, "request-id": line["request-id"] })
      yield* isHealthy(program)
    }))

  it.live.each(hangUps)(
    "after the body holds memory as long as an attempt goes on, and no longer (%s)",
    (hangUp) =>
      Effect.gen(function*() {
        const backend = yield* startHeldBackend
        const program = yield* startProgram(["--backend", backend.url, "--body-memory", "1MiB"])
        const connections = yield* Effect.forEach(filling, () => openConnection(program.port))
        connections.forEach((connection, i) => connection.write(head(randomUUID(), filling[i]!), filling[i]!))
        yield* Effect.promise(() => backend.receivedAtLeast(filling.length))
        for (const connection of connections) connection.socket[hangUp]()
        const hungUp = () => program.logs.filter(({ msg }) => msg.includes("hung up")).length === filling.length
        yield* Effect.promise(() => program.logged(hungUp))
        backend.letGo()
        yield* holdsNoMemory(program, backend)
        assert.strictEqual(backend.received.length, 2 * filling.length)
      })
  )

  it.live.each(hangUps)(
    "while it waits for memory leaves the queue to the others (%s)",
    (hangUp) =>
      Effect.gen(function*() {
        const backend = yield* startHeldBackend
        const program = yield* startProgram(["--backend", backend.url, "--body-memory", "1MiB"])
        const large = "d".repeat(900_000)
        // The second goes beyond the budget, and only one may.
        const first = deliver(program.port, large)
        yield* Effect.promise(() => backend.receivedAtLeast(1))
        const second = deliver(program.port, large)
        yield* Effect.promise(() => backend.receivedAtLeast(2))
        const body = "e".repeat(100_000)
        const waiting = yield* Effect.forEach(Array.from({ length: 5 }), () => openConnection(program.port))
        for (const connection of waiting) connection.write(head("waiting", body, body.length + 1), body)
        yield* isHealthy(program)
        for (const connection of waiting) connection.socket[hangUp]()
        yield* Effect.promise(() => Promise.all(waiting.map(({ closed }) => closed)))
        backend.letGo()
        for (const reply of yield* Effect.promise(() => Promise.all([first, second]))) {
          assert.strictEqual(reply.status, 200)
        }
        yield* holdsNoMemory(program, backend)
        assert.isFalse(backend.received.some(({ headers }) => headers["x-github-delivery"] === "waiting"))
      })
  )
})
