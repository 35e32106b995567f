/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createServer } from "node:net"
import { listen } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { runToEnd, startProgram } from "../../support/Program.ts"
import { bodyOf, ending, shuttingDown, startHeldBackend } from "./Ending.ts"

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
