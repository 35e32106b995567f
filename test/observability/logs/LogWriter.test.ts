import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { text } from "node:stream/consumers"
import { type LogSink, makeLogWriter } from "../../../src/observability/logs/LogWriter.ts"

const MEBIBYTE = 1024 * 1024

/** Holds each write until the test lets it end. */
class HeldSink implements LogSink {
  readonly chunks: Array<string> = []
  readonly held: Array<(error?: Error | null) => void> = []
  bytes = 0
  write(chunk: Uint8Array, written: (error?: Error | null) => void) {
    this.chunks.push(Buffer.from(chunk).toString())
    this.bytes += chunk.length
    this.held.push(written)
  }
  on() {}
  /** Ends all writes under way, as a stream does that writes what it had buffered in one go. */
  settle(error?: Error) {
    for (const written of this.held.splice(0)) written(error)
  }
  get lines() {
    return this.chunks.join("").split("\n").slice(0, -1)
  }
}

const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

const make = (sink: LogSink) => makeLogWriter(sink, (count) => `dropped ${count}\n`)

const epipe = Object.assign(new Error("write EPIPE"), { code: "EPIPE" })

/** Runs a program that logs to a pipe. */
const start = (body: string) =>
  spawn(process.execPath, [
    "--disable-warning=ExperimentalWarning",
    "--input-type=module",
    "-e",
    `import { makeLogWriter } from ${
      JSON.stringify(new URL("../../../src/observability/logs/LogWriter.ts", import.meta.url).href)
    }
       import * as Effect from "effect/Effect"
       const writer = makeLogWriter(process.stdout, (count) => "dropped " + count + "\\n")
       ${body}`
  ], { stdio: ["pipe", "pipe", "pipe"] })

describe("LogWriter", () => {
  it.effect("writes the lines of one turn together, in order", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      writer.write("a\n")
      writer.write("b\n")
      assert.deepStrictEqual(sink.chunks, [])
      yield* turn
      assert.deepStrictEqual(sink.chunks, ["a\nb\n"])
      sink.settle()
      writer.write("c\n")
      yield* turn
      assert.deepStrictEqual(sink.chunks, ["a\nb\n", "c\n"])
    }))

  it.effect("writes UTF-8, whatever else is known to be ASCII", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      writer.write("a\n", true)
      writer.write("\u00e9\u20ac\n")
      writer.write("b\n", true)
      yield* turn
      sink.settle()
      writer.write("c\n", true)
      yield* turn
      sink.settle()
      writer.write("\u00e9\n")
      yield* turn
      assert.deepStrictEqual(sink.chunks, ["a\n\u00e9\u20ac\nb\n", "c\n", "\u00e9\n"])
    }))

  it("doesn't wait for the end of the turn once 64 KiB are gathered", () => {
    const sink = new HeldSink()
    const writer = make(sink)
    const line = `${"x".repeat(1023)}\n`
    for (let count = 0; count < 63; count++) writer.write(line)
    assert.strictEqual(sink.chunks.length, 0)
    writer.write(line)
    assert.deepStrictEqual(sink.chunks, [line.repeat(64)])
  })

  it.effect("gathers what comes during a write, and writes it when that has ended", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      writer.write("a\n")
      yield* turn
      writer.write("b\n")
      yield* turn
      writer.write("c\n")
      yield* turn
      assert.deepStrictEqual(sink.chunks, ["a\n"])
      sink.settle()
      assert.deepStrictEqual(sink.chunks, ["a\n", "b\nc\n"])
    }))

  it("holds 8 MiB at most for a reader that has stopped, and says afterwards how many lines were lost", () => {
    const sink = new HeldSink()
    const writer = make(sink)
    const line = `${"x".repeat(1023)}\n`
    for (let count = 0; count < 20 * 1024; count++) writer.write(line)
    assert.isAtMost(sink.bytes, 8 * MEBIBYTE)
    assert.isAtLeast(sink.bytes, 7.9 * MEBIBYTE)
    sink.settle()
    sink.settle()
    const lost = 20 * 1024 - sink.lines.filter((written) => written.startsWith("x")).length
    assert.deepStrictEqual(sink.lines.filter((written) => !written.startsWith("x")), [`dropped ${lost}`])
    assert.strictEqual(sink.lines.at(-1), `dropped ${lost}`)
    assert.isAbove(lost, 11 * 1024)
  })

  it("counts bytes, not characters, and never more than was gathered beside", () => {
    const sink = new HeldSink()
    const writer = make(sink)
    const line = `${"€".repeat(341)}\n`
    for (let count = 0; count < 20 * 1024; count++) writer.write(line)
    assert.isAtMost(sink.bytes, 8 * MEBIBYTE + 3 * 64 * 1024)
  })

  it.effect("takes lines again after a loss, and reports each loss once", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      const line = `${"x".repeat(65_535)}\n`
      for (let count = 0; count < 130; count++) writer.write(line)
      sink.settle()
      sink.settle()
      writer.write("after\n")
      yield* turn
      sink.settle()
      assert.deepStrictEqual(sink.lines.filter((written) => !written.startsWith("x")), ["dropped 2", "after"])
    }))

  it.effect("outlives a reader that is gone: failed lines are counted, nothing is tried again by itself", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      writer.write("a\n")
      writer.write("b\n")
      yield* turn
      writer.write("c\n")
      sink.settle(epipe)
      assert.deepStrictEqual(sink.chunks, ["a\nb\n", "c\n"], "what was gathered meanwhile is tried once")
      sink.settle(epipe)
      yield* turn
      yield* turn
      assert.strictEqual(sink.chunks.length, 2)
      writer.write("d\n")
      yield* turn
      sink.settle()
      assert.deepStrictEqual(sink.chunks.slice(2), ["d\n", "dropped 3\n"])
    }))

  it.effect("keeps the count when the report itself is lost", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      writer.write("a\n")
      writer.write("b\n")
      yield* turn
      sink.settle(epipe)
      writer.write("c\n")
      yield* turn
      sink.settle()
      assert.strictEqual(sink.chunks.at(-1), "dropped 2\n")
      sink.settle(epipe)
      writer.write("d\n")
      yield* turn
      sink.settle()
      assert.strictEqual(sink.chunks.at(-1), "dropped 2\n")
    }))

  it.effect.each([false, true])(
    "outlives a sink that throws, called back before: %s",
    (calledBack) =>
      Effect.gen(function*() {
        let broken = true
        const written: Array<string> = []
        const writer = make({
          on: () => {},
          write: (chunk, done) => {
            if (broken && calledBack) done(epipe)
            if (broken) throw epipe
            written.push(Buffer.from(chunk).toString())
            done()
          }
        })
        writer.write("a\n")
        yield* turn
        broken = false
        writer.write("b\n")
        yield* turn
        assert.deepStrictEqual(written, ["b\n", "dropped 1\n"])
      })
  )

  it.effect("writes what is gathered when it closes, and waits until it is written", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      writer.write("last\n")
      const closing = yield* Effect.forkChild(writer.close, { startImmediately: true })
      assert.deepStrictEqual(sink.chunks, ["last\n"])
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(closing.pollUnsafe())
      sink.settle()
      yield* Fiber.join(closing)
      writer.write("after the close\n")
      assert.deepStrictEqual(sink.chunks, ["last\n", "after the close\n"])
    }))

  it.effect("waits for the report of a loss too", () =>
    Effect.gen(function*() {
      const sink = new HeldSink()
      const writer = make(sink)
      for (let count = 0; count < 129; count++) writer.write(`${"x".repeat(65_535)}\n`)
      const closing = yield* Effect.forkChild(writer.close, { startImmediately: true })
      sink.settle()
      yield* turn
      assert.isUndefined(closing.pollUnsafe())
      assert.strictEqual(sink.chunks.at(-1), "dropped 1\n")
      sink.settle()
      yield* Fiber.join(closing)
    }))

  it.effect("gives a reader that has stopped 2 s, even where it can't be interrupted", () =>
    Effect.gen(function*() {
      const writer = make(new HeldSink())
      writer.write("last\n")
      const closing = yield* Effect.forkChild(Effect.uninterruptible(writer.close), { startImmediately: true })
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
    }))

  it.effect("closes at once when nothing is under way", () => make(new HeldSink()).close)
})

describe("LogWriter on a real pipe", () => {
  it("survives the reader's end", async () => {
    const child = start(`
      process.stdin.on("data", async () => {
        for (let turn = 0; turn < 50; turn++) {
          writer.write("nobody reads this\\n")
          await new Promise((resolve) => setImmediate(resolve))
        }
        await Effect.runPromise(writer.close)
        writer.write("nor this\\n")
        setImmediate(() => process.exit(7))
      })
      writer.write("first\\n")`)
    await once(child.stdout, "data")
    child.stdout.destroy()
    child.stdin.write("go")
    const stderr = text(child.stderr)
    assert.deepStrictEqual(await once(child, "exit"), [7, null])
    assert.strictEqual(await stderr, "")
  })

  it("has written everything before process.exit, though the pipe was full", async () => {
    const child = start(`
      for (let line = 0; line < 4096; line++) writer.write("x".repeat(1023) + "\\n")
      const closed = Effect.runPromise(writer.close)
      process.stderr.write("full")
      await closed
      process.exit(0)`)
    await once(child.stderr, "data")
    assert.strictEqual((await text(child.stdout)).length, 4 * MEBIBYTE)
  })
})
