import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { LogEntry } from "../../../src/domain/LogEntry.ts"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { RefusalLog } from "../../../src/observability/logs/RefusalLog.ts"

const TestLayer = RefusalLog.layer.pipe(Layer.provideMerge(Log.layerTest))

const refuse = Effect.fnUntraced(function*(times: number, reason: string) {
  const { refused } = yield* RefusalLog
  for (let count = 0; count < times; count++) refused(reason, { status: 400 })
})

const linesOf = (entries: ReadonlyArray<LogEntry>, reason: string) =>
  entries.filter(({ fields, message }) => message === "refused" && fields["reason"] === reason).length

const reportsOf = (entries: ReadonlyArray<LogEntry>) =>
  entries.filter(({ message }) => message === "refusals not logged").map(({ fields }) => fields)

describe("RefusalLog", () => {
  it.effect("logs a refusal with its reason and fields", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      yield* refuse(1, "signature")
      assert.deepStrictEqual(entries, [
        { level: "warn", message: "refused", fields: { reason: "signature", status: 400 } }
      ])
    }).pipe(Effect.provide(TestLayer)))

  it.effect("logs ten a second, and counts the others when the second is over, though none follows", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      yield* refuse(5, "signature")
      yield* TestClock.adjust("400 millis")
      yield* refuse(20, "signature")
      assert.strictEqual(linesOf(entries, "signature"), 10)
      yield* TestClock.adjust("599 millis")
      assert.deepStrictEqual(reportsOf(entries), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(reportsOf(entries), [{ reason: "signature", count: 15 }])
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(entries.length, 11)
    }).pipe(Effect.provide(TestLayer)))

  it.effect("says nothing about a second in which all were logged", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      yield* refuse(10, "signature")
      yield* TestClock.adjust("1 second")
      yield* refuse(10, "signature")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(linesOf(entries, "signature"), 20)
      assert.deepStrictEqual(reportsOf(entries), [])
    }).pipe(Effect.provide(TestLayer)))

  it.effect("starts anew each second of a flood", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      yield* refuse(100, "signature")
      yield* TestClock.adjust("1 second")
      yield* refuse(30, "signature")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(linesOf(entries, "signature"), 20)
      assert.deepStrictEqual(reportsOf(entries), [
        { reason: "signature", count: 90 },
        { reason: "signature", count: 20 }
      ])
    }).pipe(Effect.provide(TestLayer)))

  it.effect("limits each reason for itself", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      yield* refuse(50, "signature")
      yield* refuse(3, "too large")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(linesOf(entries, "too large"), 3)
      assert.deepStrictEqual(reportsOf(entries), [{ reason: "signature", count: 40 }])
    }).pipe(Effect.provide(TestLayer)))

  it.effect("goes on logging when the clock was set back", () =>
    Effect.gen(function*() {
      const { entries } = yield* LogEntries
      yield* TestClock.setTime(3_600_000)
      yield* refuse(12, "signature")
      yield* TestClock.setTime(0)
      yield* refuse(1, "signature")
      assert.strictEqual(linesOf(entries, "signature"), 11)
      assert.deepStrictEqual(reportsOf(entries), [{ reason: "signature", count: 2 }])
    }).pipe(Effect.provide(TestLayer)))

  it.effect("gives the count when the program ends within the second", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(TestLayer, scope)
      yield* Effect.provide(refuse(12, "signature"), context)
      yield* Scope.close(scope, Exit.void)
      const { entries } = yield* Effect.provide(LogEntries, context)
      assert.deepStrictEqual(reportsOf(entries), [{ reason: "signature", count: 2 }])
    }))
})
