/** The contract of claims: which process may send which row, and when. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import { leaseMillis } from "../../../src/store/contract/Row.ts"
import { Databases, keyOf, newDelivery } from "../../support/StoreDatabases.ts"
import { type ContractIt, hours, keep, keysOf, setUp, sorted } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("claiming", () => {
    it.effect("hands out a held row at once, with what its attempt needs to know", () =>
      Effect.gen(function*() {
        const { elapse, isDue, store, write } = yield* setUp
        const delivery = newDelivery({ heldFor: "a", body: Buffer.alloc(1_234) })
        yield* write(delivery)
        yield* elapse(700)
        assert.isTrue(yield* isDue("a"))
        assert.deepStrictEqual(yield* store.claim(keyOf("a"), 1, "oldest"), [
          { id: delivery.id, key: keyOf("a"), tries: 0, age: 700, bodyLength: 1_234 }
        ])
        assert.isFalse(yield* isDue("a"))
      }))

    it.effect("says which of some backends have something due", () =>
      Effect.gen(function*() {
        const { settle, store, write } = yield* setUp
        const waiting = newDelivery({ to: "c" })
        yield* write(newDelivery({ heldFor: "ab", to: "e" }), newDelivery({ heldFor: "a" }), waiting)
        yield* settle(waiting.id, "c", { retryIn: 1_000 })
        assert.deepStrictEqual(sorted(yield* store.due(keysOf("abcdef"))), keysOf("ab"))
        assert.deepStrictEqual(yield* store.due(keysOf("bc")), keysOf("b"))
        assert.deepStrictEqual(yield* store.due([]), [])
      }))

    it.effect("takes the longest due first, or the latest arrival, and no more than asked for", () =>
      Effect.gen(function*() {
        const { claim, elapse, settle, write } = yield* setUp
        const [first, second, third, fourth] = [1, 2, 3, 4].map(() => newDelivery()) as [
          NewDelivery,
          NewDelivery,
          NewDelivery,
          NewDelivery
        ]
        yield* write(first, second, third, fourth)
        for (const [{ id }, retryIn] of [[first, 3_000], [second, 1_000], [third, 4_000], [fourth, 2_000]] as const) {
          yield* settle(id, "a", { retryIn })
        }
        yield* elapse(10_000)
        assert.deepStrictEqual(yield* claim("a", 2, "oldest"), [second.id, fourth.id])
        assert.deepStrictEqual(yield* claim("a", 1, "newest"), [third.id])
        assert.deepStrictEqual(yield* claim("a", 2, "newest"), [first.id])
      }))

    it.effect("finds the latest arrival among many that were tried since", () =>
      Effect.gen(function*() {
        const { claim, elapse, settleAll, write } = yield* setUp
        const tried = Array.from({ length: 200 }, () => newDelivery())
        yield* write(...tried)
        const [arrived, waiting] = [newDelivery({ heldFor: "a" }), newDelivery({ heldFor: "a" })]
        yield* write(arrived!, waiting!)
        yield* settleAll(
          ...tried.map(({ id }) => ({ id, key: keyOf("a"), attempt: undefined, become: { retryIn: 500 } })),
          { id: waiting!.id, key: keyOf("a"), attempt: undefined, become: { retryIn: 60_000 } }
        )
        yield* elapse(1_000)
        assert.deepStrictEqual(yield* claim("a", 2, "newest"), [arrived!.id, tried.at(-1)!.id])
      }))

    it.effect("takes what its owner has let go of with the longest due", () =>
      Effect.gen(function*() {
        const { claim, elapse, write } = yield* setUp
        const delivery = newDelivery({ heldFor: "a" })
        yield* write(delivery)
        yield* claim("a")
        yield* elapse(leaseMillis)
        assert.deepStrictEqual(yield* claim("a", 1, "newest"), [])
        assert.deepStrictEqual(yield* claim("a", 1, "oldest"), [delivery.id])
      }))

    it.effect("takes the earlier of two deliveries that are due since the same moment", () =>
      Effect.gen(function*() {
        const { claim, write } = yield* setUp
        const deliveries = Array.from({ length: 5 }, () => newDelivery({ heldFor: "a" }))
        yield* write(...deliveries.toReversed())
        const ids = deliveries.map(({ id }) => id)
        assert.deepStrictEqual(yield* claim("a", 1, "newest"), [ids[4]])
        assert.deepStrictEqual(yield* claim("a"), ids.slice(0, 4))
      }))

    it.effect("says that nothing is younger than new, though the clock was set back", () =>
      Effect.gen(function*() {
        const database = yield* (yield* Databases).create
        const delivery = newDelivery({ heldFor: "a" })
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* database.open("one")
          yield* store.write({ deliveries: [delivery], settlements: [] })
        }))
        yield* database.setBack(hours(50))
        const store = yield* database.open("two")
        yield* store.prune(keep, 100)
        assert.deepStrictEqual((yield* store.backlogs).map(({ oldestAge }) => oldestAge), [0])
        assert.deepStrictEqual((yield* store.claim(keyOf("a"), 1, "oldest")).map(({ age }) => age), [0])
      }))

    it.effect("takes nothing of another backend", () =>
      Effect.gen(function*() {
        const { claim, write } = yield* setUp
        const delivery = newDelivery({ heldFor: "ab" })
        yield* write(delivery, newDelivery({ heldFor: "b" }))
        assert.deepStrictEqual(yield* claim("a"), [delivery.id])
        assert.strictEqual((yield* claim("b")).length, 2)
      }))

    it.effect("hands out no row twice, until its lease is over", () =>
      Effect.gen(function*() {
        const { claim, elapse, isDue, write } = yield* setUp
        const delivery = newDelivery({ heldFor: "a" })
        yield* write(delivery)
        assert.deepStrictEqual(yield* claim("a"), [delivery.id])
        yield* elapse(leaseMillis - 1)
        assert.deepStrictEqual([yield* isDue("a"), yield* claim("a")], [false, []])
        yield* elapse(1)
        assert.deepStrictEqual([yield* isDue("a"), yield* claim("a")], [true, [delivery.id]])
      }))

    it.effect("leaves to the writer what it wrote, until its lease is over", () =>
      Effect.gen(function*() {
        const { claim, elapse, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* elapse(leaseMillis - 1)
        assert.deepStrictEqual(yield* claim("a"), [])
        yield* elapse(1)
        assert.deepStrictEqual(yield* claim("a"), [delivery.id])
      }))

    it.effect("makes due what its owner gives back, and nothing else", () =>
      Effect.gen(function*() {
        const { claim, row, settle, store, write } = yield* setUp
        const [mine, waiting, done] = [newDelivery(), newDelivery({ to: "b" }), newDelivery({ to: "c" })]
        yield* write(mine, waiting, done)
        yield* settle(waiting.id, "b", { retryIn: 60_000 })
        yield* settle(done.id, "c", "delivered")
        yield* store.release
        assert.deepStrictEqual(yield* store.due(keysOf("abc")), keysOf("a"))
        assert.deepStrictEqual(yield* claim("a"), [mine.id])
        assert.strictEqual((yield* row(mine.id, "a")).tries, 0)
      }))
  })
}
