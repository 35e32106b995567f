/** Two processes on one store. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { leaseMillis } from "../../../src/store/contract/Row.ts"
import { attemptOf, keyOf, newDelivery, numbered } from "../../support/StoreDatabases.ts"
import { again, type ContractIt, hours, keep, keysOf, setUp, sorted, stateOf, type Store } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("shared by two replicas", () => {
    const twoReplicas = Effect.gen(function*() {
      const one = yield* setUp
      return { ...one, other: yield* one.database.open("other") }
    })

    it.effect("hands each of 500 rows to one of them, once", () =>
      Effect.gen(function*() {
        const { other, store, write } = yield* twoReplicas
        const deliveries = Array.from({ length: 500 }, () => newDelivery({ heldFor: "a" }))
        yield* write(...deliveries)
        const claimAll = Effect.fnUntraced(function*(replica: Store) {
          const ids: Array<string> = []
          for (let misses = 0; misses < 3;) {
            const claimed = yield* replica.claim(keyOf("a"), 7, ids.length % 2 === 0 ? "oldest" : "newest")
            ids.push(...claimed.map(({ id }) => id))
            misses = claimed.length === 0 ? misses + 1 : 0
            yield* Effect.yieldNow
          }
          return ids
        })
        const claimed = yield* Effect.forEach([store, other, store, other], claimAll, { concurrency: 4 })
        assert.deepStrictEqual(sorted(claimed.flat()), sorted(deliveries.map(({ id }) => id)))
        assert.isTrue(claimed.every((ids) => ids.length > 0))
      }))

    it.effect("passes on what one has begun and not settled when its lease is over", () =>
      Effect.gen(function*() {
        const { elapse, other, row, settle, store, write } = yield* twoReplicas
        const delivery = newDelivery()
        yield* write(delivery)
        assert.deepStrictEqual(yield* other.claim(keyOf("a"), 10, "oldest"), [])
        yield* elapse(leaseMillis)
        const [claimed] = yield* other.claim(keyOf("a"), 10, "oldest")
        assert.deepInclude(claimed, { id: delivery.id, tries: 0, age: leaseMillis })
        assert.deepStrictEqual(yield* store.claim(keyOf("a"), 10, "oldest"), [])
        // The first owner was slow, not dead: only what can't be undone counts.
        yield* settle(delivery.id, "a", { retryIn: 0 }, attemptOf(1))
        yield* settle(delivery.id, "a", "dead", attemptOf(2))
        assert.deepInclude(yield* row(delivery.id, "a"), { state: "pending", underWay: true })
        yield* settle(delivery.id, "a", "delivered", attemptOf(3, { outcome: "delivered" }))
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
        yield* other.write({
          deliveries: [],
          settlements: [numbered({ id: delivery.id, key: keyOf("a"), attempt: attemptOf(4), become: { retryIn: 0 } })]
        })
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
        const [shown] = yield* other.show(delivery.id)
        assert.deepStrictEqual(shown?.attempts.map(({ at }) => at), [1, 2, 3, 4])
      }))

    it.effect("gives back for each its own", () =>
      Effect.gen(function*() {
        const { isDue, other, store, write } = yield* twoReplicas
        yield* write(newDelivery({ to: "a" }))
        yield* other.write({ deliveries: [newDelivery({ to: "b" })], settlements: [] })
        yield* other.release
        assert.deepStrictEqual([yield* isDue("a"), yield* isDue("b")], [false, true])
        yield* store.release
        assert.isTrue(yield* isDue("a"))
      }))

    it.effect("recognises a delivery that GitHub sent to both", () =>
      Effect.gen(function*() {
        const { listed, other, store } = yield* twoReplicas
        const pairs = Array.from({ length: 20 }, () => {
          const delivery = newDelivery({ to: "ab" })
          return [delivery, again(delivery, { to: "ab" })] as const
        })
        const recorded = yield* Effect.forEach(pairs, ([first, second]) =>
          Effect.all([
            store.write({ deliveries: [first], settlements: [] }),
            other.write({ deliveries: [second], settlements: [] })
          ], { concurrency: 2 }), { concurrency: 4 })
        for (const [[one], [two]] of recorded) {
          assert.strictEqual(one!.id, two!.id)
          assert.notStrictEqual(one!.isRedelivery, two!.isRedelivery)
          assert.deepStrictEqual(sorted([...one!.owned, ...two!.owned]), keysOf("ab"))
        }
        assert.strictEqual((yield* listed({})).length, pairs.length)
      }))

    it.effect("takes crossing writes of the same deliveries in different order", () =>
      Effect.gen(function*() {
        const { listed, other, store } = yield* twoReplicas
        const deliveries = Array.from({ length: 30 }, () => newDelivery({ to: "ab" }))
        const copies = deliveries.map((delivery) => again(delivery, { to: "ab" })).toReversed()
        const recorded = yield* Effect.all([
          store.write({ deliveries, settlements: [] }),
          other.write({ deliveries: copies, settlements: [] })
        ], { concurrency: 2 })
        const owned = Map.groupBy(recorded.flat(), ({ id }) => id)
        assert.strictEqual(owned.size, deliveries.length)
        for (const [id, both] of owned) {
          assert.deepStrictEqual(sorted(both.flatMap((one) => one.owned)), keysOf("ab"), id)
        }
        assert.strictEqual((yield* listed({})).length, deliveries.length)
      }))

    it.effect("shows each what the other wrote, registered and cancelled", () =>
      Effect.gen(function*() {
        const { other, row, store, write } = yield* twoReplicas
        const delivery = newDelivery()
        yield* write(delivery)
        assert.deepStrictEqual((yield* other.load(delivery.id))?.body, Buffer.concat(delivery.body))
        assert.strictEqual(yield* other.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: 60_000 }, 1), "added")
        assert.strictEqual(yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: 60_000 }, 1), "renewed")
        assert.strictEqual(yield* store.putBackend({ key: keyOf("b"), url: keyOf("b"), ttl: 60_000 }, 1), "limit")
        assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("a"))
        assert.isTrue(yield* other.deleteBackend(keyOf("a")))
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "cancelled")
      }))

    it.effect("works while both write, claim, settle and prune", () =>
      Effect.gen(function*() {
        const { elapse, other, prune, store } = yield* twoReplicas
        const work = Effect.fnUntraced(function*(replica: Store, round: number) {
          const delivery = newDelivery({
            to: "a",
            heldFor: "b",
            guid: `shared-${round % 10}`,
            body: Buffer.from("same")
          })
          const [recorded] = yield* replica.write({ deliveries: [delivery], settlements: [] })
          const claimed = yield* replica.claim(keyOf("b"), 3, round % 2 === 0 ? "oldest" : "newest")
          const settlements = [...recorded!.owned.map((key) => ({ id: recorded!.id, key })), ...claimed].map(
            ({ id, key }) => numbered({ id, key, attempt: attemptOf(round), become: "delivered" })
          )
          yield* replica.write({ deliveries: [], settlements: settlements.toReversed() })
          yield* replica.prune(keep, 10)
        })
        yield* Effect.forEach(
          Array.from({ length: 120 }, (_, round) => round),
          (round) => work(round % 2 === 0 ? store : other, round),
          { concurrency: 12 }
        )
        yield* store.release
        yield* other.release
        const { deliveries } = yield* store.list({}, { limit: 100 })
        assert.strictEqual(deliveries.length, 10)
        for (const { rows } of deliveries) {
          assert.deepStrictEqual(sorted(rows.map(({ key }) => key)), keysOf("ab"))
          assert.isTrue(rows.every(({ state }) => state === "pending" || state === "delivered"))
        }
        // In the end nothing is stuck.
        for (const name of ["a", "b"]) {
          const left = yield* store.claim(keyOf(name), 100, "oldest")
          yield* store.write({
            deliveries: [],
            settlements: left.map(({ id, key }) => numbered({ id, key, attempt: undefined, become: "delivered" }))
          })
        }
        assert.deepStrictEqual((yield* store.backlogs).filter(({ pending }) => pending > 0), [])
        yield* elapse(hours(200))
        yield* prune({ delivered: hours(24), dead: hours(168) })
        assert.deepStrictEqual((yield* store.list({}, { limit: 100 })).deliveries, [])
      }))
  })
}
