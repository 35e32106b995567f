import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { createHash } from "node:crypto"
import { parse } from "../../../src/domain/Backend.ts"
import { Body } from "../../../src/domain/Body.ts"
import type { Delivery } from "../../../src/domain/Delivery.ts"
import { FallbackRecords } from "../../../src/durable/fallback/FallbackRecords.ts"
import * as StoredFallbackRecords from "../../../src/durable/fallback/StoredFallbackRecords.ts"
import { StoreWriter } from "../../../src/durable/writing/StoreWriter.ts"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { RecoveryStore } from "../../../src/store/RecoveryStore.ts"
import type { FallbackRecord } from "../../../src/store/contract/Recovery.ts"
import { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"

const backends = ["http://a.test", "http://b.test"].map((url) => Result.getOrThrow(parse(url, "static")))
const [a, b] = backends.map(({ key }) => key) as [string, string]

const deliveryOf = (guid: string | undefined): Delivery => ({
  requestId: "request",
  guid,
  event: "push",
  method: "POST",
  target: "/",
  forwardedTarget: "/",
  headers: ["X-GitHub-Hook-ID", "4711"],
  body: new Body([Buffer.from("{"), Buffer.from("}")], 2)
})

const setUp = Effect.gen(function*() {
  const kept: Array<ReadonlyArray<FallbackRecord>> = []
  const state = {
    isUp: true,
    upSince: -Infinity,
    refuses: (_record: FallbackRecord): StoreUnavailable | undefined => undefined
  }
  const store = Layer.mock(RecoveryStore)({
    keepFallbacks: (records) =>
      Effect.suspend(() => {
        const refusal = records.map((record) => state.refuses(record)).find((one) => one !== undefined)
        if (refusal !== undefined) return Effect.fail(refusal)
        kept.push(records)
        return Effect.void
      })
  })
  const scope = yield* Scope.make()
  const services = yield* Layer.buildWithScope(
    StoredFallbackRecords.layer.pipe(
      Layer.provide([
        store,
        Layer.succeed(
          StoreWriter,
          StoreWriter.of({
            write: () => {},
            settle: () => {},
            hasCaughtUp: () => state.isUp,
            caughtUpSince: () => state.isUp ? state.upSince : undefined
          })
        ),
        Timers.layerClock
      ]),
      Layer.provideMerge(Log.layerTest)
    ),
    scope
  )
  const records = Context.get(services, FallbackRecords)
  const lines = Effect.map(LogEntries, ({ entries }) => entries.map(({ message }) => message)).pipe(
    Effect.provideContext(services)
  )
  return {
    state,
    lines,
    allKept: records.allKept,
    begin: (guid: string | undefined) => records.begin(deliveryOf(guid), backends),
    /** The GUIDs in each call. */
    kept: () => kept.map((some) => some.map(({ guid }) => guid)),
    records: () => kept.flat(),
    stop: Scope.close(scope, Exit.void)
  }
})

const away = new StoreUnavailable({ reason: "away" })
const unstorable = new StoreUnavailable({ reason: "too long", fault: "content" })

describe("the record of a delivery that goes without the store", () => {
  it.effect("is kept when all attempts have ended, with its fingerprint and each end", () =>
    Effect.gen(function*() {
      const { begin, records } = yield* setUp
      const record = begin("guid")
      record.ended(a, "delivered")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(records(), [])
      record.ended(b, { retryIn: 1_000 })
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(records(), [{
        guid: "guid",
        hookId: "4711",
        age: 60_000,
        bodyHash: createHash("sha256").update("{}").digest("hex"),
        backends: [{ key: a, end: "delivered" }, { key: b, end: undefined }]
      }])
    }))

  it.effect("says that a backend may have it that is not to be asked again, and that all lack what was not sent", () =>
    Effect.gen(function*() {
      const { begin, records } = yield* setUp
      const unknown = begin("unknown")
      unknown.ended(a, "dead")
      unknown.ended(b, "rejected")
      begin("not sent").abandoned()
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(records().map((record) => record.backends.map(({ end }) => end)), [
        ["dead", "rejected"],
        [undefined, undefined]
      ])
    }))

  it.effect("is not kept without a GUID", () =>
    Effect.gen(function*() {
      const { begin, records, stop } = yield* setUp
      const record = begin(undefined)
      record.ended(a, "delivered")
      record.abandoned()
      yield* stop
      assert.deepStrictEqual(records(), [])
    }))

  it.effect("waits while the store is away, and is written as soon as it is back", () =>
    Effect.gen(function*() {
      const { begin, kept, state } = yield* setUp
      state.isUp = false
      for (const guid of ["one", "two"]) begin(guid).abandoned()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(kept(), [])
      state.isUp = true
      state.refuses = () => away
      yield* TestClock.adjust("10 seconds")
      state.refuses = () => undefined
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(kept(), [["one", "two"]])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(kept(), [["one", "two"]])
    }))

  it.effect("says how long ago the delivery was received, whenever it is written", () =>
    Effect.gen(function*() {
      const { begin, records, state } = yield* setUp
      state.isUp = false
      begin("one").abandoned()
      yield* TestClock.adjust("1 hour")
      begin("two").abandoned()
      state.isUp = true
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(records().map(({ age, guid }) => [guid, age]), [["one", 3_601_000], ["two", 1_000]])
    }))

  it.effect("is waited for, and for those of other processes, when the store is back", () =>
    Effect.gen(function*() {
      const { allKept, begin, kept, state } = yield* setUp
      yield* allKept
      Object.assign(state, { isUp: false, refuses: () => away })
      begin("one").abandoned()
      const waiting = yield* Effect.forkChild(allKept, { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      Object.assign(state, { isUp: true, upSince: 2_000 })
      yield* TestClock.adjust("14 seconds")
      assert.isUndefined(waiting.pollUnsafe(), "others may be about to write theirs")
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(waiting.pollUnsafe(), "the store has not taken it")
      state.refuses = () => undefined
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(kept(), [["one"]])
      yield* Fiber.join(waiting)
    }))

  it.effect("is waited for no longer than it makes sense", () =>
    Effect.gen(function*() {
      const { allKept, state } = yield* setUp
      state.isUp = false
      const waiting = yield* Effect.forkChild(Effect.flip(allKept), { startImmediately: true })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(
        (yield* Fiber.join(waiting)).reason,
        "records of deliveries that went without the store are not in it yet"
      )
    }))

  it.effect("alone is dropped if the store can't keep it, and this is logged", () =>
    Effect.gen(function*() {
      const { begin, kept, lines, state } = yield* setUp
      state.refuses = ({ guid }) => guid === "bad" ? unstorable : undefined
      for (const guid of ["one", "bad", "two"]) begin(guid).abandoned()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(kept(), [["one"], ["two"]])
      assert.deepStrictEqual(yield* lines, [
        "the record of a delivery without the store can't be stored, and is dropped"
      ])
    }))

  it.effect("is written when the process ends, or this is logged", () =>
    Effect.gen(function*() {
      const one = yield* setUp
      one.state.isUp = false
      one.begin("one").abandoned()
      yield* one.stop
      assert.deepStrictEqual(one.kept(), [["one"]])
      const other = yield* setUp
      other.state.refuses = () => away
      other.begin("one").abandoned()
      yield* other.stop
      assert.deepStrictEqual(yield* other.lines, [
        "the store did not take the records of deliveries without it: recovery may send some again"
      ])
    }))
})
