/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import { startBackend } from "../../support/Backend.ts"
import { deliver, githubHeaders, type Reply, send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import {
  bodies,
  bodyOf,
  ending,
  isListening,
  rawConnection,
  rawDelivery,
  shuttingDown,
  startHeldBackend
} from "./Ending.ts"

const numbersOf = (backend: { readonly received: ReadonlyArray<{ readonly body: Buffer }> }) =>
  backend.received.map(({ body }) => (JSON.parse(body.toString()) as { number: number }).number).toSorted((a, b) =>
    a - b
  )

/** A connection of its own that is kept from one request to the next. */
const keptConnection = Effect.acquireRelease(
  Effect.sync(() => new Http.Agent({ keepAlive: true, maxSockets: 1 })),
  (agent) => Effect.sync(() => agent.destroy())
)

describe("SIGTERM", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.live(`${signal}: what is in flight is answered and reaches every backend before the program ends`, () =>
      Effect.gen(function*() {
        const backends = yield* Effect.all([startHeldBackend, startHeldBackend, startHeldBackend])
        const program = yield* startProgram([
          ...backends.flatMap(({ url }) => ["--backend", url]),
          "--backend-concurrency",
          "500"
        ])
        const [openedBefore, another] = yield* Effect.all([keptConnection, keptConnection])
        yield* Effect.promise(async () => {
          const readyz = (agent: Http.Agent) => send(program.port, { method: "GET", path: "/readyz", agent })
          assert.deepInclude(await readyz(openedBefore), { status: 200, text: "ready" })
          assert.deepInclude(await readyz(another), { status: 200, text: "ready" })
          const replies = bodies(500).map((body) => deliver(program.port, body))
          await Promise.all(backends.map((backend) => backend.receivedAtLeast(500)))

          const ended = ending(program)
          program.process.kill(signal)
          await shuttingDown(program)
          const draining = await readyz(openedBefore)
          assert.deepInclude(draining, { status: 503, text: "draining" })
          assert.strictEqual(draining.headers.connection, "close")
          await eventually(async () => !await isListening(program.port), "the end of the listener")
          assert.deepInclude(await readyz(another), { status: 503, text: "draining" })
          assert.isNull(program.process.exitCode)

          for (const backend of backends) backend.release()
          const settled = await Promise.all(replies)
          assert.deepStrictEqual(settled.filter(({ status }) => status !== 200 && status !== 202), [])
          assert.deepStrictEqual(settled.filter(({ headers }) => headers.connection !== "close"), [])
          assert.strictEqual(await ended, 0)
          for (const backend of backends) {
            assert.deepStrictEqual(numbersOf(backend), Array.from({ length: 500 }, (_, number) => number))
          }
          assert.deepInclude(program.logs.at(-1), { level: "info", msg: "stopped" })
          assert.strictEqual(program.stderr(), "")
        })
      }))
  }

  it.live("what waits for a backend's permit is forwarded before the program ends", () =>
    Effect.gen(function*() {
      const backend = yield* startHeldBackend
      const program = yield* startProgram(["--backend", backend.url, "--backend-concurrency", "2"])
      yield* Effect.promise(async () => {
        const replies = bodies(50).map((body) => deliver(program.port, body))
        await backend.receivedAtLeast(2)
        // The others are read when a request that came after them is answered: they wait for a permit.
        await deliver(program.port, "{}", { headers: { "x-hub-signature-256": "forged" } })
        const ended = ending(program)
        program.process.kill("SIGTERM")
        await shuttingDown(program)
        backend.release()
        assert.deepStrictEqual(
          (await Promise.all(replies)).filter(({ status }) => status !== 200 && status !== 202),
          []
        )
        assert.strictEqual(await ended, 0)
        assert.strictEqual(backend.received.length, 50)
      })
    }))

  it.live("requests that were sent and not yet read are answered, on new connections and on old ones", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const kept = yield* Effect.forEach(Array.from({ length: 100 }), () => keptConnection)
      yield* Effect.promise(async () => {
        for (
          const reply of await Promise.all(
            kept.map((agent) => send(program.port, { path: "/healthz", agent, method: "GET" }))
          )
        ) {
          assert.strictEqual(reply.status, 200)
        }
        // Stopped, it reads nothing: the system accepts the connections and keeps what is sent.
        program.process.kill("SIGSTOP")
        let sent = 0
        const headers = await Promise.all(bodies(500).map((body) => githubHeaders(body)))
        const replies = bodies(500).map((body, number) =>
          new Promise<Reply>((resolve, reject) => {
            const request = Http.request({
              port: program.port,
              host: "127.0.0.1",
              method: "POST",
              path: "/proxy",
              agent: kept[number] ?? false,
              headers: { ...headers[number], "content-length": body.length }
            })
            request.on("error", reject)
            request.on("finish", () => sent += 1)
            request.on("response", (response) => {
              response.resume().on("end", () =>
                resolve({ status: response.statusCode!, headers: response.headers, text: "" }))
            })
            request.end(body)
          })
        )
        const settled = Promise.allSettled(replies)
        await eventually(() => sent === 500, "the sending")
        const ended = ending(program)
        program.process.kill("SIGTERM")
        program.process.kill("SIGCONT")
        const results = await settled
        assert.deepStrictEqual(
          results.filter((result) => result.status === "rejected").map(({ reason }) => String(reason)),
          []
        )
        assert.deepStrictEqual(
          results.filter((result) => result.status === "fulfilled" && result.value.status !== 200),
          []
        )
        assert.strictEqual(await ended, 0)
        assert.deepStrictEqual(numbersOf(backend), Array.from({ length: 500 }, (_, number) => number))
      })
    }))

  it.live("clients that go on sending are let go with a reply, and nothing that they sent is lost", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const held = yield* startHeldBackend
      const program = yield* startProgram(["--backend", backend.url, "--enable-dynamic-backends"])
      const agents = yield* Effect.forEach(Array.from({ length: 8 }), () => keptConnection)
      yield* Effect.promise(async () => {
        // One delivery holds the program until every client has been let go.
        await send(program.port, { path: "/backends", body: JSON.stringify({ url: held.url }) })
        const holding = deliver(program.port, bodyOf(-1))
        await held.receivedAtLeast(1)
        await send(program.port, { method: "DELETE", path: "/backends", body: JSON.stringify({ url: held.url }) })

        let delivered = 0
        const clients = agents.map(async (agent) => {
          for (;;) {
            const reply = await deliver(program.port, bodyOf(delivered), { agent })
            assert.strictEqual(reply.status, 200)
            delivered += 1
            if (reply.headers.connection === "close") return
          }
        })
        await eventually(() => delivered >= 50, "the first deliveries")
        const ended = ending(program)
        program.process.kill("SIGTERM")
        await Promise.all(clients)
        held.release()
        assert.include([200, 202], (await holding).status)
        assert.strictEqual(await ended, 0)
        assert.strictEqual(backend.received.length, delivered + 1)
      })
    }))

  it.live("a delivery that is still arriving when the last attempt ends is not cut off", () =>
    Effect.gen(function*() {
      const backend = yield* startHeldBackend
      const program = yield* startProgram(["--backend", backend.url, "--reply-deadline", "100ms"])
      const late = yield* rawConnection(program.port)
      yield* Effect.promise(async () => {
        const first = await deliver(program.port, bodyOf(1))
        assert.strictEqual(first.status, 202)
        const ended = ending(program)
        program.process.kill("SIGTERM")
        await shuttingDown(program)
        await eventually(async () => !await isListening(program.port), "the end of the listener")
        // Past the time in which the program waits for requests that are on their way: it waits for attempts by now.
        await new Promise((resolve) => setTimeout(resolve, 500))
        const body = bodyOf(2)
        late.socket.write(`${await rawDelivery(body)}${body.slice(0, 4)}`)
        await new Promise((resolve) => setTimeout(resolve, 50))
        backend.release()
        await program.logged(({ msg }) => msg === "proxied request")
        late.socket.write(body.slice(4))
        assert.match((await late.closed).text, /^HTTP\/1\.1 20[02] /)
        assert.strictEqual(await ended, 0)
        assert.deepStrictEqual(numbersOf(backend), [1, 2])
      })
    }))

  it.live("when nothing is under way the program ends at once, with idle connections open", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url])
      const agent = yield* keptConnection
      const silent = yield* rawConnection(program.port)
      yield* Effect.promise(async () => {
        assert.strictEqual((await deliver(program.port, bodyOf(1), { agent })).status, 200)
        const ended = ending(program)
        program.process.kill("SIGTERM")
        assert.strictEqual(await ended, 0)
        assert.isFalse((await silent.closed).reset)
        const [began, stopped] = ["shutting down", "stopped"].map((msg) =>
          Date.parse(String(program.logs.find((line) => line.msg === msg)?.["ts"]))
        )
        // By its own clock: the grace is 25 s.
        assert.isBelow(stopped! - began!, 2_000)
        assert.deepInclude(program.logs.at(-1), { msg: "stopped" })
      })
    }))

  it.live("`stopped` is the last line, although refusals were counted", () =>
    Effect.gen(function*() {
      const program = yield* startProgram([])
      yield* Effect.promise(async () => {
        const ended = ending(program)
        const agent = new Http.Agent({ keepAlive: true })
        program.process.kill("SIGSTOP")
        const forged = { headers: { "x-hub-signature-256": "forged" }, agent }
        const replies = Array.from({ length: 50 }, () => deliver(program.port, "{}", forged))
        await eventually(() => Object.values(agent.sockets).flat().length === 50)
        program.process.kill("SIGTERM")
        program.process.kill("SIGCONT")
        for (const reply of await Promise.allSettled(replies)) assert.strictEqual(reply.status, "fulfilled")
        assert.strictEqual(await ended, 0)
        assert.strictEqual(program.logs.filter(({ msg }) => msg === "refusals not logged").length, 1)
        assert.strictEqual(program.logs.at(-1)?.msg, "stopped")
      })
    }))
})
