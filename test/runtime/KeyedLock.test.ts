import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { KeyedLock } from "../../src/runtime/KeyedLock.ts"

describe("a lock for each key", () => {
  const locked = Effect.fnUntraced(function*(keys: ReadonlyArray<string>) {
    const lock = new KeyedLock()
    const told: Array<string> = []
    const open = yield* Deferred.make<void>()
    const begin = (key: string) => {
      const work = Effect.andThen(Effect.sync(() => told.push(key)), Deferred.await(open))
      return Effect.forkChild(lock.withLock(key, work), { startImmediately: true })
    }
    const fibers = yield* Effect.forEach(keys, begin)
    return { fibers, lock, open, told }
  })

  it.effect("lets one effect of a key run at a time, in their order, and those of other keys beside it", () =>
    Effect.gen(function*() {
      const { fibers, open, told } = yield* locked(["a", "a", "b"])
      assert.deepStrictEqual(told, ["a", "b"])
      yield* Deferred.succeed(open, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(told, ["a", "b", "a"])
    }))

  it.effect("is free again after an interruption", () =>
    Effect.gen(function*() {
      const { fibers, lock } = yield* locked(["a"])
      yield* Effect.forEach(fibers, Fiber.interrupt)
      assert.strictEqual(yield* lock.withLock("a", Effect.succeed("free")), "free")
    }))
})
