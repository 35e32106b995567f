/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { join } from "node:path"
import { text as textOf } from "node:stream/consumers"
import { promisify } from "node:util"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { type LogLine, programFile } from "../../support/Program.ts"
import { directory, loopback, withSecret } from "./Starting.ts"

/** A pipe as a shell makes it. Both ends are the caller's to close. */
const pipe = Effect.map(directory, (path) => {
  const fifo = join(path, "stdout")
  execFileSync("mkfifo", [fifo])
  // Opened for both, as neither end waits for the other then.
  const both = fs.openSync(fifo, "r+")
  const reader = fs.openSync(fifo, "r")
  const writer = fs.openSync(fifo, "w")
  fs.closeSync(both)
  return { reader, writer }
})

/** The program with `writer` as its stdout, which is closed here then. */
const launchInto = (writer: number, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [programFile, ...loopback, ...args], {
        env: { PATH: process.env["PATH"], ...withSecret },
        stdio: ["ignore", writer, "pipe"]
      })
      fs.closeSync(writer)
      const stderr = textOf(child.stderr!)
      const closed = once(child, "close").then(([code]) => code as number | null)
      return { child, closed, stderr }
    }),
    ({ child, closed }) =>
      Effect.promise(async () => {
        child.kill("SIGKILL")
        await closed
      })
  )

/** Runs a command that reads the pipe, and returns its output. The pipe is closed on our side then. */
const readBy = (command: string, args: ReadonlyArray<string>, reader: number): Promise<string> => {
  const child = spawn(command, args, { stdio: [reader, "pipe", "inherit"] })
  fs.closeSync(reader)
  return textOf(child.stdout!)
}

const isCount = ({ msg }: LogLine): boolean => msg === "log lines dropped"

/** The port of the public listener, which the first line tells. */
const listening = (lines: string): number => {
  const { msg, port } = JSON.parse(lines.slice(0, lines.indexOf("\n"))) as LogLine
  assert.strictEqual(msg, "listening")
  return Number(port)
}

describe("stdout", () => {
  it.live("closed by its reader after a line, as by `| head -1`, ends nothing", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const { reader, writer } = yield* pipe
      const program = yield* launchInto(writer, ["--backend", backend.url])
      yield* Effect.promise(async () => {
        const port = listening(await readBy("head", ["-1"], reader))
        for (let count = 0; count < 20; count++) {
          assert.strictEqual((await deliver(port, JSON.stringify({ count }))).status, 200)
        }
        assert.strictEqual(backend.received.length, 20)
        program.child.kill("SIGTERM")
        assert.strictEqual(await program.closed, 0)
        assert.strictEqual(await program.stderr, "")
      })
    }))

  it.live("that nobody reads holds no delivery up, and what is kept for it is bounded and counted", () =>
    Effect.gen(function*() {
      // Each delivery makes 50 lines of 1.4 kB: 250 deliveries make twice what may be kept.
      const backend = yield* startBackend((_, response) => {
        response.writeHead(413).end("x".repeat(1_100))
      })
      const { reader, writer } = yield* pipe
      const backends = Array.from({ length: 50 }, (_, number) => `${backend.url}/${number}`)
      const timeouts = ["--forwarding-timeout", "50s", "--reply-deadline", "50s", "--shutdown-grace", "100s"]
      const program = yield* launchInto(writer, ["--backend", backends.join(","), ...timeouts])
      yield* Effect.promise(async () => {
        const first = Buffer.alloc(64 * 1024)
        const { bytesRead } = await promisify(fs.read)(reader, first, 0, first.length, null)
        const port = listening(first.subarray(0, bytesRead).toString())
        for (let round = 0; round < 25; round++) {
          const replies = await Promise.all(
            Array.from({ length: 10 }, (_, number) => deliver(port, JSON.stringify({ round, number })))
          )
          assert.deepStrictEqual(replies.map(({ status }) => status), replies.map(() => 200))
        }
        assert.strictEqual(backend.received.length, 12_500)

        const stdout = readBy("cat", [], reader)
        program.child.kill("SIGTERM")
        assert.strictEqual(await program.closed, 0)
        const lines = (await stdout).trim().split("\n").map((line) => JSON.parse(line) as LogLine)
        const dropped = lines.filter(isCount).reduce((sum, { count }) => sum + Number(count), 0)
        assert.isAbove(dropped, 0)
        // The attempts, the replies, "shutting down" and "stopped".
        assert.strictEqual(lines.filter((line) => !isCount(line)).length + dropped, 12_500 + 250 + 2)
        assert.isBelow(Buffer.byteLength(await stdout), 10 * 1024 * 1024)
      })
    }))

  it.live("that nobody ever reads holds the end up for two seconds at most", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response) => {
        response.writeHead(400).end("x".repeat(1_100))
      })
      const { reader, writer } = yield* pipe
      const backends = Array.from({ length: 50 }, (_, number) => `${backend.url}/${number}`)
      const program = yield* launchInto(writer, ["--backend", backends.join(",")])
      yield* Effect.promise(async () => {
        const first = Buffer.alloc(64 * 1024)
        const { bytesRead } = await promisify(fs.read)(reader, first, 0, first.length, null)
        const port = listening(first.subarray(0, bytesRead).toString())
        // 140 kB, more than the pipe takes.
        for (const body of ["1", "2"]) assert.strictEqual((await deliver(port, body)).status, 200)
        program.child.kill("SIGTERM")
        assert.strictEqual(await program.closed, 0)
        fs.closeSync(reader)
      })
    }))
})
