/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
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
