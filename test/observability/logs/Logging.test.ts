import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { PassThrough, Writable } from "node:stream"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"

/** Runs a program with a log and returns what the sink had received when the log's scope was closed. */
const written = Effect.fnUntraced(function*<A, E>(
  program: Effect.Effect<A, E, Log>,
  options: {
    readonly settings?: Partial<Settings["Service"]>
    readonly isTTY?: boolean
    readonly env?: Record<string, string>
  } = {}
) {
  const sink = Object.assign(new PassThrough(), { isTTY: options.isTTY ?? false })
  yield* program.pipe(
    Effect.provide(
      Log.layerSink(sink).pipe(
        Layer.provide(Settings.layerFrom({ logFormat: "json", logLevel: "info", ...options.settings })),
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: options.env ?? {} })))
      )
    )
  )
  return String(sink.read() ?? "")
})

const entriesOf = (output: string): Array<Record<string, unknown>> =>
  output.split("\n").slice(0, -1).map((line) => JSON.parse(line))

const one = Effect.map(Log, (log) => log.write("info", "one", { n: 1 }))

describe("Log", () => {
  it.effect("writes lines with the clock's time, all of them before its scope has closed", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 10, 23, 18, 40, 5))
      const output = yield* written(Effect.andThen(one, one))
      const line =
        "{\"ts\":\"2026-11-23T18:40:05.000Z\",\"level\":\"info\",\"msg\":\"one\",\"service\":\"sprayproxy\"," +
        "\"audit\":\"true\",\"n\":1}\n"
      assert.strictEqual(output, line + line)
    }))

  const levels = ["debug", "info", "warn", "error"] as const

  it.effect.each(levels)(
    "leaves out what is below the level %s, its own and Effect's",
    (logLevel) =>
      Effect.gen(function*() {
        const output = yield* written(
          Effect.gen(function*() {
            const log = yield* Log
            for (const level of levels) log.write(level, "own")
            yield* Effect.logDebug("Effect's")
            yield* Effect.logInfo("Effect's")
            yield* Effect.logWarning("Effect's")
            yield* Effect.logError("Effect's")
          }),
          { settings: { logLevel } }
        )
        const entries = entriesOf(output)
        const expected = levels.slice(levels.indexOf(logLevel))
        assert.deepStrictEqual(entries.filter(({ msg }) => msg === "own").map(({ level }) => level), expected)
        assert.deepStrictEqual(entries.filter(({ msg }) => msg === "Effect's").map(({ level }) => level), expected)
      })
  )

  it.effect("is pretty where it is wanted, coloured only on a terminal and without NO_COLOR", () =>
    Effect.gen(function*() {
      const settings = { logFormat: "pretty" } as const
      const plain = "00:00:00.000 INFO  one  n=1\n"
      assert.strictEqual(yield* written(one, { settings }), plain)
      assert.strictEqual(yield* written(one, { settings, isTTY: true, env: { NO_COLOR: "1" } }), plain)
      assert.include(yield* written(one, { settings, isTTY: true }), "\u001b[32mINFO")
      assert.include(yield* written(one, { settings, isTTY: true, env: { NO_COLOR: "" } }), "\u001b[32mINFO")
    }))

  it.effect("is the program's only logger: annotations become fields, a cause one line", () =>
    Effect.gen(function*() {
      const output = yield* written(
        Effect.logError("it", "broke", { at: 3 }, Cause.die(new Error("first line\nsecond line"))).pipe(
          Effect.annotateLogs({ backend: "https://a", tries: 2, level: "mine", list: [1] })
        )
      )
      const [entry, ...others] = entriesOf(output)
      assert.deepStrictEqual(others, [])
      const { error, ...rest } = entry!
      assert.deepStrictEqual(rest, {
        ts: "1970-01-01T00:00:00.000Z",
        level: "error",
        msg: "it broke {\"at\":3}",
        service: "sprayproxy",
        audit: "true",
        backend: "https://a",
        tries: 2,
        level_: "mine",
        list: "[1]"
      })
      assert.match(String(error), /^Error: first line second line at .*Logging\.test\.ts/)
      assert.notInclude(String(error), "\n")
    }))

  it.effect("reports lost lines in a line of its own kind, and counts them", () =>
    withFreshMetrics(Effect.gen(function*() {
      const held: Array<() => void> = []
      let output = ""
      const sink = new Writable({
        highWaterMark: 1,
        write(chunk, _encoding, done) {
          output += String(chunk)
          held.push(done)
        },
        writev(chunks, done) {
          output += chunks.map(({ chunk }) => String(chunk)).join("")
          held.push(done)
        }
      })
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        Log.layerSink(sink).pipe(Layer.provide(Settings.layerFrom({ logFormat: "json" }))),
        scope
      )
      const log = yield* Effect.provide(Log, context)
      for (let count = 0; count < 10_000; count++) log.write("info", "kept or lost", { answer: "x".repeat(1024) })
      assert.strictEqual((yield* scrape).value("sprayproxy_log_lines_dropped_total"), 0)
      const writeUntil = Effect.fnUntraced(function*(isEnough: () => boolean) {
        while (!isEnough()) {
          held.splice(0).forEach((done) => done())
          yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
        }
      })
      yield* writeUntil(() => output.includes("log lines dropped"))
      const lost = (yield* scrape).value("sprayproxy_log_lines_dropped_total")
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* writeUntil(() => closing.pollUnsafe() !== undefined)
      const entries = entriesOf(output)
      const { count, level, msg } = entries.at(-1)!
      assert.deepStrictEqual({ level, msg }, { level: "warn", msg: "log lines dropped" })
      assert.strictEqual(entries.length - 1 + Number(count), 10_000)
      assert.isAbove(Number(count), 1000)
      assert.strictEqual(lost, count)
    })))

  it.effect("outlives a stream that fails and emits its error", () =>
    Effect.gen(function*() {
      const sink = new Writable({
        write: (_chunk, _encoding, done) => done(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }))
      })
      const errors: Array<Error> = []
      const program = Effect.gen(function*() {
        yield* one
        yield* Effect.callback<void>((resume) => {
          sink.once("error", (error) => {
            errors.push(error)
            resume(Effect.void)
          })
        })
        yield* one
      })
      yield* program.pipe(
        Effect.provide(
          Log.layerSink(sink).pipe(Layer.provide(Settings.layerFrom({ logFormat: "json" })))
        )
      )
      assert.strictEqual(errors.length, 1)
    }))
})

describe("Log.layerTest", () => {
  it.effect("collects what the program and Effect log", () =>
    Effect.gen(function*() {
      const log = yield* Log
      const { entries } = yield* LogEntries
      log.write("debug", "own", { n: 1 })
      log.write("warn", "bare")
      yield* Effect.logWarning("Effect's")
      assert.deepStrictEqual(entries, [
        { level: "debug", message: "own", fields: { n: 1 } },
        { level: "warn", message: "bare", fields: {} },
        { level: "warn", message: "Effect's", fields: {} }
      ])
    }).pipe(Effect.provide(Log.layerTest)))

  it.effect("starts empty each time it is built", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      assert.deepStrictEqual(entries, [])
    }).pipe(Effect.provide(Log.layerTest)))
})
