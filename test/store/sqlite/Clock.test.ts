import { assert, describe, it } from "@effect/vitest"
import { Clock } from "effect/Clock"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { StoreClock } from "../../../src/store/sqlite/Clock.ts"

const hour = 3_600_000

const started = Effect.gen(function*() {
  yield* TestClock.setTime(1_000 * hour)
  return new StoreClock(yield* Clock)
})

describe("a store's clock", () => {
  it.effect("shows the system's time where nothing is known", () =>
    Effect.gen(function*() {
      const clock = yield* started
      clock.resume(undefined, [])
      yield* TestClock.adjust(5 * hour)
      assert.strictEqual(clock.now(), 1_005 * hour)
    }))

  it.effect("goes on from what was seen, and the system's time catches up", () =>
    Effect.gen(function*() {
      const clock = yield* started
      clock.resume(1_001 * hour, [])
      assert.isUndefined(clock.unsaved)
      assert.strictEqual(clock.now(), 1_001 * hour)
      yield* TestClock.adjust(64 * hour)
      assert.strictEqual(clock.now(), 1_064 * hour + hour / 2)
      yield* TestClock.adjust(100 * hour)
      assert.strictEqual(clock.now(), 1_164 * hour)
    }))

  it.effect("is never set back by a file from before, and set forward by one from after", () =>
    Effect.gen(function*() {
      const clock = yield* started
      clock.resume(undefined, [])
      yield* TestClock.adjust(hour)
      clock.resume(900 * hour, [])
      assert.isUndefined(clock.unsaved)
      assert.strictEqual(clock.now(), 1_001 * hour)
      clock.resume(1_010 * hour, [])
      assert.strictEqual(clock.now(), 1_010 * hour)
    }))

  it.effect("does not count the time in which nothing ran, and shows it", () =>
    Effect.gen(function*() {
      const clock = yield* started
      const before = { at: 700 * hour, length: 50 * hour }
      clock.resume(900 * hour, [before])
      const stop = { at: 900 * hour, length: 100 * hour }
      assert.deepStrictEqual([clock.unsaved, clock.stops], [stop, [stop, before]])
      // The file, opened anew, has not got it.
      clock.resume(900 * hour, [before])
      assert.deepStrictEqual([clock.unsaved, clock.stops], [stop, [stop, before]])
      yield* TestClock.adjust(hour)
      assert.strictEqual(clock.now(), 1_001 * hour)
      assert.strictEqual(clock.ago(hour / 2), 1_000 * hour + hour / 2)
      assert.strictEqual(clock.ago(2 * hour), 899 * hour)
      assert.strictEqual(clock.ago(152 * hour), 699 * hour)
    }))

  it.effect("takes a short gap for a restart", () =>
    Effect.gen(function*() {
      const clock = yield* started
      clock.resume(1_000 * hour - hour / 2, [])
      assert.isUndefined(clock.unsaved)
    }))
})
