import { afterEach, describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { Timers } from "../../src/runtime/Timers.ts"

describe("timers on a Clock", () => {
  it.effect("fire once, when their time has come and in its order", () =>
    Effect.gen(function*() {
      const timers = yield* Timers
      const fired: Array<string> = []
      timers.after(20, () => fired.push(`late at ${timers.now()}`))
      timers.after(10, () => fired.push(`early at ${timers.now()}`))
      yield* TestClock.adjust(9)
      expect(fired).toEqual([])
      yield* TestClock.adjust(1)
      expect(fired).toEqual(["early at 10"])
      yield* TestClock.adjust(100)
      expect(fired).toEqual(["early at 10", "late at 20"])
    }).pipe(Effect.provide(Timers.layerClock)))

  it.effect("don't fire once they are cancelled", () =>
    Effect.gen(function*() {
      const timers = yield* Timers
      const fired: Array<string> = []
      const cancel = timers.after(10, () => fired.push("cancelled"))
      timers.after(10, () => fired.push("kept"))
      cancel()
      cancel()
      yield* TestClock.adjust(10)
      expect(fired).toEqual(["kept"])
    }).pipe(Effect.provide(Timers.layerClock)))

  it.effect("don't fire before they are set, not even without a delay", () =>
    Effect.gen(function*() {
      const timers = yield* Timers
      const happened: Array<string> = []
      timers.after(0, () => happened.push("fired"))
      happened.push("set")
      yield* TestClock.adjust(0)
      expect(happened).toEqual(["set", "fired"])
    }).pipe(Effect.provide(Timers.layerClock)))

  it.effect("can be set from a timer", () =>
    Effect.gen(function*() {
      const timers = yield* Timers
      const fired: Array<number> = []
      const again = () => {
        fired.push(timers.now())
        timers.after(5, again)
      }
      timers.after(5, again)
      yield* TestClock.adjust(17)
      expect(fired).toEqual([5, 10, 15])
    }).pipe(Effect.provide(Timers.layerClock)))
})

describe("timers of the process", () => {
  afterEach(() => void vi.useRealTimers())

  it.effect("fire once, when their time has come, unless they are cancelled", () =>
    Effect.gen(function*() {
      const timers = yield* Timers
      vi.useFakeTimers()
      const fired: Array<string> = []
      timers.after(10, () => fired.push("kept"))
      timers.after(10, () => fired.push("cancelled"))()
      vi.advanceTimersByTime(9)
      expect(fired).toEqual([])
      vi.advanceTimersByTime(100)
      expect(fired).toEqual(["kept"])
    }).pipe(Effect.provide(Timers.layer)))

  it.effect("go by a clock that does not step when the time of day does", () =>
    Effect.gen(function*() {
      const timers = yield* Timers
      vi.useFakeTimers({ toFake: ["Date"] })
      const before = timers.now()
      vi.setSystemTime(0)
      const after = timers.now()
      expect(after).toBeGreaterThanOrEqual(before)
      vi.setSystemTime(new Date("2100-01-01"))
      expect(timers.now() - after).toBeLessThan(86_400_000)
    }).pipe(Effect.provide(Timers.layer)))
})
