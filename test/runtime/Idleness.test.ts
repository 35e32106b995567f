import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Idleness } from "../../src/runtime/Idleness.ts"

const setUp = () => {
  const state = { underWay: 0 }
  return { state, idleness: new Idleness(() => state.underWay === 0) }
}

const waiting = (idleness: Idleness) => Effect.forkChild(idleness.await, { startImmediately: true })

describe("idleness", () => {
  it.effect("is there at once where nothing is under way", () => setUp().idleness.await)

  it.effect("comes for all who wait when the last has ended", () =>
    Effect.gen(function*() {
      const { idleness, state } = setUp()
      state.underWay = 2
      const fibers = [yield* waiting(idleness), yield* waiting(idleness)]
      state.underWay = 1
      idleness.check()
      assert.deepStrictEqual(fibers.map((fiber) => fiber.pollUnsafe()), [undefined, undefined])
      state.underWay = 0
      idleness.check()
      for (const fiber of fibers) yield* Fiber.join(fiber)
    }))

  it.effect("is not waited for any more by who was interrupted", () =>
    Effect.gen(function*() {
      const { idleness, state } = setUp()
      state.underWay = 1
      const fiber = yield* waiting(idleness)
      yield* Fiber.interrupt(fiber)
      let asked = 0
      const other = new Idleness(() => {
        asked += 1
        return false
      })
      yield* Fiber.interrupt(yield* waiting(other))
      other.check()
      assert.strictEqual(asked, 1)
    }))
})
