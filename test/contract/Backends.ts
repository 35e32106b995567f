/** Dynamic backends. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { keyOf, newDelivery } from "../StoreDatabases.ts"
import { type ContractIt, hours, keysOf, setUp, stateOf } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("dynamic backends", () => {
    it.effect("are added, changed and counted", () =>
      Effect.gen(function*() {
        const { elapse, now, store } = yield* setUp
        const put = (name: string, ttl: number | undefined, limit: number, url = keyOf(name)) =>
          store.putBackend({ key: keyOf(name), url, ttl }, limit)
        const registeredAt = yield* now
        assert.strictEqual(yield* put("a", 60_000, 2), "added")
        assert.strictEqual(yield* put("b", undefined, 2), "added")
        assert.strictEqual(yield* put("c", undefined, 2), "limit")
        yield* elapse(1_000)
        assert.strictEqual(yield* put("a", 60_000, 2, "http://other/"), "renewed")
        assert.strictEqual(yield* put("b", 5_000, 1), "renewed")
        const backends = (yield* store.backends).toSorted((a, b) => a.key < b.key ? -1 : 1)
        assert.deepStrictEqual(backends, [
          { key: keyOf("a"), url: "http://other/", registeredAt, expiresAt: registeredAt + 61_000 },
          { key: keyOf("b"), url: keyOf("b"), registeredAt, expiresAt: registeredAt + 6_000 }
        ])
        yield* put("b", undefined, 2)
        assert.isUndefined((yield* store.backends).find(({ key }) => key === keyOf("b"))?.expiresAt)
      }))

    it.effect("are never more than the limit, however many come at once", () =>
      Effect.gen(function*() {
        const { store } = yield* setUp
        const answers = yield* Effect.forEach(
          [..."abcdefghijkl"],
          (name) => store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined }, 5),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(answers.filter((answer) => answer === "added").length, 5)
        assert.strictEqual((yield* store.backends).length, 5)
      }))

    it.effect("take their pending rows with them", () =>
      Effect.gen(function*() {
        const { row, settle, store, write } = yield* setUp
        for (const name of "ab") yield* store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined }, 10)
        const [pending, done] = [newDelivery({ to: "ab" }), newDelivery()]
        yield* write(pending, done)
        yield* settle(done.id, "a", "delivered")
        assert.isTrue(yield* store.deleteBackend(keyOf("a")))
        assert.isFalse(yield* store.deleteBackend(keyOf("a")))
        assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("b"))
        assert.strictEqual(stateOf(yield* row(pending.id, "a")), "cancelled")
        assert.strictEqual(stateOf(yield* row(pending.id, "b")), "pending")
        assert.strictEqual(stateOf(yield* row(done.id, "a")), "delivered")
      }))

    it.effect("take all their pending rows with them, however many", () =>
      Effect.gen(function*() {
        const { isDue, listed, store, write } = yield* setUp
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
        const deliveries = Array.from({ length: 2_500 }, () => newDelivery({ heldFor: "a" }))
        for (let at = 0; at < deliveries.length; at += 250) yield* write(...deliveries.slice(at, at + 250))
        assert.isTrue(yield* store.deleteBackend(keyOf("a")))
        assert.isFalse(yield* isDue("a"))
        assert.deepStrictEqual(yield* listed({ state: "pending" }), [])
        assert.deepStrictEqual(yield* store.backlogs, [])
      }))

    it.effect("whose removal is broken off can be removed by whoever comes next", () =>
      Effect.gen(function*() {
        const { elapse, isDue, store, write } = yield* setUp
        const put = (ttl: number | undefined) => store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl }, 10)
        const writeBacklog = Effect.suspend(() =>
          write(...Array.from({ length: 2_500 }, () => newDelivery({ heldFor: "a" })))
        )
        const removals = [
          { register: put(undefined), remove: store.deleteBackend(keyOf("a")) },
          { register: Effect.andThen(put(1), elapse(1_000)), remove: store.expireBackends }
        ]
        for (const { register, remove } of removals) {
          yield* register
          yield* writeBacklog
          const removing = yield* Effect.forkChild(remove, { startImmediately: true })
          const left = Effect.map(store.backlogs, ([backlog]) => backlog?.pending ?? 0)
          yield* Effect.repeat(left, { until: (pending) => pending < 2_500 })
          yield* Fiber.interrupt(removing)
          yield* remove
          assert.isFalse(yield* isDue("a"))
          assert.deepStrictEqual(yield* store.backlogs, [])
          assert.deepStrictEqual(yield* store.backends, [])
        }
      }))

    it.effect("keep the rows of a backend that is not theirs", () =>
      Effect.gen(function*() {
        const { row, store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        assert.isFalse(yield* store.deleteBackend(keyOf("a")))
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
      }))

    it.effect("go when their time is over", () =>
      Effect.gen(function*() {
        const { elapse, row, store, write } = yield* setUp
        for (const [name, ttl] of [["a", 1_000], ["b", 2_000], ["c", undefined]] as const) {
          yield* store.putBackend({ key: keyOf(name), url: keyOf(name), ttl }, 10)
        }
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* elapse(999)
        assert.deepStrictEqual(yield* store.expireBackends, [])
        yield* elapse(2)
        assert.deepStrictEqual(yield* store.expireBackends, keysOf("a"))
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "cancelled")
        assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "pending")
        yield* elapse(hours(1_000))
        assert.deepStrictEqual(yield* store.expireBackends, keysOf("b"))
        assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("c"))
      }))
  })
}
