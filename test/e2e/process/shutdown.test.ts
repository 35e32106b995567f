/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { ServerResponse } from "node:http"
import * as Http from "node:http"
import { connect, createServer, type Socket } from "node:net"
import { listen, startBackend } from "../../support/Backend.ts"
import { deliver, githubHeaders, type Reply, send } from "../../support/GitHub.ts"
import { type Program, runToEnd, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

/** Call it before the program is told to stop: the exit code, when all that it has logged is here too. */
const ending = (program: Program): Promise<number | null> =>
  new Promise((resolve) => program.process.once("close", (code) => resolve(code)))

const shuttingDown = (program: Program) => program.logged(({ msg }) => msg === "shutting down")

const bodyOf = (number: number) => JSON.stringify({ number })

const bodies = (count: number) => Array.from({ length: count }, (_, number) => bodyOf(number))

/** A backend that answers nothing until it is told to, and then everything. */
const startHeldBackend = Effect.gen(function*() {
  const held: Array<ServerResponse> = []
  let released = false
  const backend = yield* startBackend((_, response) => {
    if (released) response.writeHead(202).end()
    else held.push(response)
  })
  const release = () => {
    released = true
    for (const response of held.splice(0)) response.writeHead(202).end()
  }
  return { ...backend, release }
})

const numbersOf = (backend: { readonly received: ReadonlyArray<{ readonly body: Buffer }> }) =>
  backend.received.map(({ body }) => (JSON.parse(body.toString()) as { number: number }).number).toSorted((a, b) =>
    a - b
  )

const isListening = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1")
    socket.once("error", () => resolve(false))
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
  })

/** A connection of its own that is kept from one request to the next. */
const keptConnection = Effect.acquireRelease(
  Effect.sync(() => new Http.Agent({ keepAlive: true, maxSockets: 1 })),
  (agent) => Effect.sync(() => agent.destroy())
)

const rawDelivery = async (body: string) => {
  const headers = Object.entries(await githubHeaders(body)).map(([name, value]) => `${name}: ${value}\r\n`)
  return `POST /proxy HTTP/1.1\r\nhost: x\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${headers.join("")}\r\n`
}

interface RawConnection {
  readonly socket: Socket
  readonly text: () => string
  /** What came until the connection was closed, and whether it was reset. */
  readonly closed: Promise<{ readonly text: string; readonly reset: boolean }>
}

const rawConnection = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<RawConnection>((resolve, reject) => {
        const socket = connect(port, "127.0.0.1")
        const chunks: Array<Buffer> = []
        let reset = false
        const text = () => Buffer.concat(chunks).toString()
        socket.on("data", (chunk) => chunks.push(chunk))
        socket.on("error", (error) => {
          reset = true
          reject(error)
        })
        const closed = new Promise<{ text: string; reset: boolean }>((resolveClosed) => {
          socket.on("close", () => resolveClosed({ text: text(), reset }))
        })
        socket.on("connect", () => resolve({ socket, text, closed }))
      })
    ),
    ({ socket }) => Effect.sync(() => socket.destroy())
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

describe("--shutdown-delay", () => {
  it.live("deliveries on new connections are still accepted, and told that this was the last one", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      // Real time is the subject. What is sent within it takes milliseconds.
      const program = yield* startProgram(["--backend", backend.url, "--shutdown-delay", "2s"])
      yield* Effect.promise(async () => {
        const ended = ending(program)
        program.process.kill("SIGTERM")
        await shuttingDown(program)
        const replies = await Promise.all(bodies(20).map((body) => deliver(program.port, body)))
        assert.deepStrictEqual(
          replies.map(({ headers, status, text }) => [status, text, headers.connection]),
          replies.map(() => [200, "proxied", "close"])
        )
        const ready = await send(program.port, { method: "GET", path: "/readyz" })
        assert.deepInclude(ready, { status: 503, text: "draining" })
        const alive = await send(program.port, { method: "GET", path: "/healthz" })
        assert.deepInclude(alive, { status: 200, text: "healthy" })
        await eventually(async () => !await isListening(program.port), "the end of the listener")
        assert.strictEqual(await ended, 0)
        assert.strictEqual(backend.received.length, 20)
        const [began, stopped] = ["shutting down", "stopped"].map((msg) =>
          Date.parse(String(program.logs.find((line) => line.msg === msg)?.["ts"]))
        )
        assert.isAtLeast(stopped! - began!, 1_990)
      })
    }))
})

describe("--shutdown-grace", () => {
  it.live("a hanging backend is cut off: its clients get replies, the log says how many, the exit code is 1", () =>
    Effect.gen(function*() {
      const hanging = yield* startHeldBackend
      const backend = yield* startBackend()
      const program = yield* startProgram([
        "--backend",
        `${hanging.url},${backend.url}`,
        "--shutdown-grace",
        "300ms"
      ])
      yield* Effect.promise(async () => {
        const settled = Promise.allSettled(bodies(30).map((body) => deliver(program.port, body)))
        await Promise.all([hanging.receivedAtLeast(30), backend.receivedAtLeast(30)])
        const ended = ending(program)
        program.process.kill("SIGTERM")
        const results = await settled
        assert.deepStrictEqual(
          results.map((result) => result.status === "fulfilled" ? result.value.status : String(result.reason)),
          results.map(() => 502)
        )
        assert.strictEqual(await ended, 1)
        const exceeded = program.logs.find(({ msg }) => msg === "shutdown grace exceeded")
        assert.deepInclude(exceeded, { level: "error", grace: "300ms", attempts: 30 })
        const cutOff = program.logs.filter(({ error }) => error === "cut off by the shutdown")
        assert.strictEqual(cutOff.length, 30)
        assert.strictEqual(
          program.stderr(),
          "sprayproxy: the shutdown grace was over before every attempt had an outcome (30 cut off)\n"
        )
      })
    }))

  it.live("attempts that go on behind a reply are cut off too", () =>
    Effect.gen(function*() {
      const hanging = yield* startHeldBackend
      const program = yield* startProgram([
        "--backend",
        hanging.url,
        "--shutdown-grace",
        "300ms",
        "--reply-deadline",
        "50ms"
      ])
      yield* Effect.promise(async () => {
        assert.strictEqual((await deliver(program.port, bodyOf(1))).status, 202)
        const ended = ending(program)
        program.process.kill("SIGTERM")
        assert.strictEqual(await ended, 1)
        assert.deepInclude(program.logs.find(({ msg }) => msg === "shutdown grace exceeded"), { attempts: 1 })
      })
    }))

  it.live("a sender that stops in the middle of its body does not hold the program any longer", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url, "--shutdown-grace", "300ms"])
      const sender = yield* rawConnection(program.port)
      yield* Effect.promise(async () => {
        const body = "x".repeat(100_000)
        sender.socket.write(`${await rawDelivery(body)}xxx`)
        // A reply to a request that was sent later: the head before it has been read.
        await send(program.port, { method: "GET", path: "/healthz" })
        const ended = ending(program)
        program.process.kill("SIGTERM")
        assert.strictEqual(await ended, 0)
        const closed = await sender.closed
        assert.isFalse(closed.reset)
        assert.strictEqual(backend.received.length, 0)
        const [began, stopped] = ["shutting down", "stopped"].map((msg) =>
          Date.parse(String(program.logs.find((line) => line.msg === msg)?.["ts"]))
        )
        assert.isAtLeast(stopped! - began!, 290)
        // A sender may be this slow for 5 s, and its reply may take 9 s: neither was waited for.
        assert.isBelow(stopped! - began!, 4_000)
      })
    }))
})

describe("a second signal", () => {
  for (const second of ["SIGTERM", "SIGINT"] as const) {
    it.live(`${second} ends the program at once, with exit code 1`, () =>
      Effect.gen(function*() {
        const hanging = yield* startHeldBackend
        const program = yield* startProgram(["--backend", hanging.url])
        yield* Effect.promise(async () => {
          const reply = deliver(program.port, bodyOf(1)).then(() => "replied", () => "cut off")
          await hanging.receivedAtLeast(1)
          const ended = ending(program)
          program.process.kill("SIGTERM")
          await shuttingDown(program)
          program.process.kill(second)
          assert.strictEqual(await ended, 1)
          assert.strictEqual(await reply, "cut off")
          assert.notInclude(program.logs.map(({ msg }) => msg), "stopped")
        })
      }))
  }
})

/** Starts the program with `code` run before its own. */
const withPreload = (code: string, args = ["--backend", "http://127.0.0.1:1"]) =>
  runToEnd(
    ["server", "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", ...args],
    {
      GH_APP_WEBHOOK_SECRET: "s3cret",
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}`
    }
  )

describe("a signal during the start", () => {
  it.live("while the program is still being loaded ends it cleanly", () =>
    Effect.promise(async () => {
      const { code, signal, stderr, stdout } = await withPreload(
        `import { registerHooks } from "node:module"
         registerHooks({
           load: (url, context, next) => {
             if (!url.endsWith("/main.js")) return next(url, context)
             process.kill(process.pid, "SIGTERM")
             // It takes for ever.
             const source = "setInterval(() => {}, 1000); await new Promise(() => {})"
             return { source, format: "module", shortCircuit: true }
           }
         })`
      )
      assert.deepStrictEqual([code, signal, stderr], [0, null, ""])
      assert.notInclude(stdout, "listening")
    }))

  it.live("while a database does not answer ends it at once", () =>
    Effect.gen(function*() {
      const port = yield* listen(createServer(() => {}))
      const { code, signal, stderr, stdout } = yield* Effect.promise(() =>
        withPreload(
          `import { Socket } from "node:net"
           const { connect } = Socket.prototype
           Socket.prototype.connect = function(...args) {
             this.once("connect", () => process.kill(process.pid, "SIGTERM"))
             return connect.apply(this, args)
           }`,
          ["--store", `postgres://somebody@127.0.0.1:${port}/silent`]
        )
      )
      assert.deepStrictEqual([code, signal, stderr, stdout], [0, null, "", ""])
    }))

  it.live("as soon as it can be heard ends the program cleanly", () =>
    Effect.promise(async () => {
      const { code, signal, stderr } = await withPreload(
        `const onListener = (name) => {
           if (name !== "SIGTERM") return
           process.off("newListener", onListener)
           process.nextTick(() => process.kill(process.pid, name))
         }
         process.on("newListener", onListener)`
      )
      assert.deepStrictEqual([code, signal, stderr], [0, null, ""])
    }))

  for (const moment of ["before", "after"] as const) {
    it.live(`${moment} the listener opens ends the program cleanly`, () =>
      Effect.promise(async () => {
        const { code, signal, stderr } = await withPreload(
          `import { Server } from "node:net"
           const { listen } = Server.prototype
           Server.prototype.listen = function(...args) {
             Server.prototype.listen = listen
             const stop = () => process.kill(process.pid, "SIGTERM")
             if ("${moment}" === "before") stop()
             else this.once("listening", stop)
             return listen.apply(this, args)
           }`
        )
        assert.deepStrictEqual([code, signal, stderr], [0, null, ""])
      }))
  }
})

describe("an exception that nobody catches", () => {
  it.live("ends the program with one line that says what it was", () =>
    Effect.gen(function*() {
      const code = `process.on("SIGUSR2", () => setTimeout(() => { throw new Error("no such\\nluck") }))`
      const program = yield* startProgram([], {
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}`
      })
      program.process.kill("SIGUSR2")
      assert.strictEqual(yield* Effect.promise(() => ending(program)), 1)
      assert.strictEqual(program.stderr(), "")
      const last = program.logs.at(-1)
      assert.deepInclude(last, { level: "error", msg: "unexpected failure: the process ends" })
      assert.match(String(last!["error"]), /^Error: no such luck at /)
    }))
})
