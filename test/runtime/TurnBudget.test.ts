import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TurnBudget } from "../../src/runtime/TurnBudget.ts"

const turn = Effect.promise(() => new Promise<void>((resolve) => void setImmediate(resolve)))

/** Takes more than the whole share of a turn. */
const long = () => {
  const until = performance.now() + 3
  while (performance.now() < until);
}

const share = TurnBudget.pipe(Effect.provide(TurnBudget.layer))

describe("a share of each turn", () => {
  it.effect("runs what fits into it at once", () =>
    Effect.gen(function*() {
      const { isOpen, run } = yield* share
      const done: Array<number> = []
      for (let n = 0; n < 3; n++) run(() => void done.push(n))
      expect(done).toEqual([0, 1, 2])
      expect(isOpen()).toBe(true)
    }))

  it.effect("keeps what is beyond it for later turns, in order", () =>
    Effect.gen(function*() {
      const { isOpen, run } = yield* share
      const done: Array<number> = []
      const work = (n: number) => () => {
        long()
        done.push(n)
      }
      for (let n = 0; n < 4; n++) run(work(n))
      expect(done).toEqual([0])
      expect(isOpen()).toBe(false)
      while (done.length < 4) yield* turn
      expect(done).toEqual([0, 1, 2, 3])
    }))

  it.effect("lets nothing that comes later pass", () =>
    Effect.gen(function*() {
      const { run } = yield* share
      const done: Array<string> = []
      run(long)
      run(() => void done.push("early"))
      yield* turn
      run(() => void done.push("late"))
      while (done.length < 2) yield* turn
      expect(done).toEqual(["early", "late"])
    }))

  it.effect("does not bound work that can't wait", () =>
    Effect.gen(function*() {
      const { run, runAll } = yield* share
      const done: Array<number> = []
      for (let n = 0; n < 4; n++) {
        run(() => {
          long()
          done.push(n)
        })
      }
      runAll()
      expect(done).toEqual([0, 1, 2, 3])
      yield* turn
      yield* turn
      run(() => void done.push(4))
      expect(done).toEqual([0, 1, 2, 3, 4])
    }))

  it.effect("is whole again in the next turn", () =>
    Effect.gen(function*() {
      const { isOpen, run } = yield* share
      run(long)
      expect(isOpen()).toBe(false)
      yield* turn
      yield* turn
      expect(isOpen()).toBe(true)
    }))

  it.effect("leaves turns free between two shares, in which connections are accepted", () =>
    Effect.gen(function*() {
      const { run } = yield* share
      const turns: Array<number> = []
      let now = 0
      const work = () => {
        long()
        turns.push(now)
      }
      for (let n = 0; n < 3; n++) run(work)
      for (now = 1; turns.length < 3; now++) yield* turn
      expect(turns[2]! - turns[1]!).toBeGreaterThan(4)
    }))
})
