import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import { parse } from "../src/Backend.ts"
import { BackendBreakers } from "../src/BackendBreakers.ts"
import { Settings } from "../src/Settings.ts"
import { Timers } from "../src/Timers.ts"

const backend = Result.getOrThrow(parse("http://a.test", "static"))
const other = Result.getOrThrow(parse("http://b.test", "static"))

const provided = Effect.provide(BackendBreakers.layer.pipe(
  Layer.provide(Layer.mergeAll(Timers.layerClock, Settings.layerFrom({})))
))

const fail = (breakers: BackendBreakers["Service"], times: number) => {
  for (let time = 0; time < times; time += 1) breakers.ended(backend, false)
}

describe("a backend's breaker", () => {
  it.effect("opens after five failures in a row, for this backend alone", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 4)
      breakers.ended(backend, true)
      fail(breakers, 4)
      assert.isTrue(breakers.admits(backend))
      fail(breakers, 1)
      assert.isFalse(breakers.admits(backend))
      assert.isTrue(breakers.admits(other))
    }).pipe(provided))

  it.effect("lets one probe through after a second, and closes when it succeeds", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      yield* TestClock.adjust(999)
      assert.isFalse(breakers.admits(backend))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual([breakers.admits(backend), breakers.admits(backend)], [true, false])
      breakers.ended(backend, true)
      assert.isTrue(breakers.isClosed(backend))
      assert.isTrue(breakers.admits(backend))
    }).pipe(provided))

  it.effect("doubles the wait with each probe that fails, up to 15 s", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      const waits: Array<number> = []
      for (let probe = 0; probe < 6; probe += 1) {
        let waited = 0
        while (!breakers.admits(backend)) {
          yield* TestClock.adjust(500)
          waited += 500
        }
        waits.push(waited)
        fail(breakers, 1)
      }
      assert.deepStrictEqual(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000])
    }).pipe(provided))

  it.effect("takes no failure of an attempt from before it opened for its probe's", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      yield* TestClock.adjust(500)
      fail(breakers, 10)
      yield* TestClock.adjust(500)
      assert.isTrue(breakers.admits(backend))
    }).pipe(provided))

  it.effect("gives the probe to another when it was not made, or has no end", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      yield* TestClock.adjust("1 second")
      assert.isTrue(breakers.admits(backend))
      breakers.notMade(backend)
      assert.isTrue(breakers.admits(backend))
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(breakers.admits(backend))
    }).pipe(provided))
})
