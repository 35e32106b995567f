/** The contract of pruning: what is removed, and when. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Page } from "../../../src/store/contract/Operator.ts"
import { leaseMillis, longestDelay, type Settlement } from "../../../src/store/contract/Row.ts"
import { attemptOf, Databases, keyOf, newDelivery, numbered } from "../../support/StoreDatabases.ts"
import { again, type ContractIt, hours, keep, keysOf, setUp, stateOf } from "./Subject.ts"

const idsOf = ({ deliveries }: Page) => deliveries.map(({ id }) => id)

export const tests = (it: ContractIt) => {
  describe("pruning", () => {
    it.effect("takes headers and body some time after the last row was settled, and leaves the rest", () =>
      Effect.gen(function*() {
        const { cancel, elapse, listed, prune, row, settle, store, view, write } = yield* setUp
        const delivery = newDelivery({ to: "abc" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        yield* elapse(hours(30))
        yield* settle(delivery.id, "b", "rejected")
        yield* cancel("c")
        yield* elapse(hours(24) - 1_000)
        yield* prune({ delivered: hours(24) })
        assert.isDefined(yield* store.load(delivery.id))
        assert.isTrue((yield* view(delivery.id)).hasBody)
        yield* elapse(2_000)
        yield* prune({ delivered: hours(24) })
        assert.isUndefined(yield* store.load(delivery.id))
        assert.isFalse((yield* view(delivery.id)).hasBody)
        assert.strictEqual((yield* view(delivery.id)).bodyLength, Buffer.concat(delivery.body).length)
        assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "rejected")
        assert.deepStrictEqual(yield* listed({}), [delivery.id])
      }))

    it.effect("takes no body that is needed still", () =>
      Effect.gen(function*() {
        const { elapse, prune, settle, store, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        yield* settle(delivery.id, "b", { retryIn: hours(1) })
        yield* elapse(hours(1_000))
        yield* prune({ delivered: hours(24), dead: hours(48) })
        assert.isDefined(yield* store.load(delivery.id))
      }))

    it.effect("keeps a delivery with a dead row whole for longer, and then nothing of it", () =>
      Effect.gen(function*() {
        const { elapse, prune, settle, store, write } = yield* setUp
        const retention = { delivered: hours(24), dead: hours(168) }
        const [dead, delivered] = [newDelivery({ to: "ab" }), newDelivery({ to: "ab" })]
        yield* write(dead, delivered)
        yield* settle(dead.id, "a", "dead", attemptOf(1))
        for (const [id, name] of [[dead.id, "b"], [delivered.id, "a"], [delivered.id, "b"]] as const) {
          yield* settle(id, name, "delivered", attemptOf(2))
        }
        yield* elapse(hours(168) - 1_000)
        yield* prune(retention)
        assert.isDefined(yield* store.load(dead.id))
        assert.isUndefined(yield* store.load(delivered.id))
        assert.strictEqual((yield* store.show(delivered.id)).length, 1)
        yield* elapse(2_000)
        yield* prune(retention)
        assert.deepStrictEqual([yield* store.show(dead.id), yield* store.show(delivered.id)], [[], []])
        assert.isUndefined(yield* store.load(dead.id))
        assert.deepStrictEqual(yield* store.backlogs, [])
      }))

    it.effect("forgets with a delivery what made it a redelivery", () =>
      Effect.gen(function*() {
        const { elapse, prune, settle, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        yield* elapse(hours(200))
        yield* prune({ delivered: hours(24), dead: hours(168) })
        const [recorded] = yield* write(again(delivery, { to: "a" }))
        assert.isFalse(recorded?.isRedelivery)
      }))

    it.effect("gives up as dead what is pending for too long", () =>
      Effect.gen(function*() {
        const { elapse, isDue, now, prune, row, settle, write } = yield* setUp
        const [old, recent] = [newDelivery({ to: "ab" }), newDelivery()]
        yield* write(old)
        yield* settle(old.id, "a", { retryIn: 1_000 }, attemptOf(1))
        yield* settle(old.id, "b", "delivered")
        yield* elapse(hours(71))
        yield* write(recent)
        yield* settle(recent.id, "a", { retryIn: hours(1) })
        yield* elapse(hours(1) - 1_000)
        yield* prune({ maxAge: hours(72) })
        assert.strictEqual(stateOf(yield* row(old.id, "a")), "pending")
        yield* elapse(2_000)
        yield* prune({ maxAge: hours(72) })
        assert.deepInclude(yield* row(old.id, "a"), { state: "dead", settledAt: yield* now, tries: 1 })
        assert.strictEqual(stateOf(yield* row(old.id, "b")), "delivered")
        assert.strictEqual(stateOf(yield* row(recent.id, "a")), "pending")
        assert.isTrue(yield* isDue("a"))
      }))

    it.effect("counts the age of what was asked for again from then on", () =>
      Effect.gen(function*() {
        const { elapse, prune, row, settle, store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* settle(delivery.id, "a", "dead")
        yield* elapse(hours(80))
        yield* store.redeliver({ id: delivery.id }, 10)
        yield* elapse(hours(71))
        yield* prune({ maxAge: hours(72) })
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
        yield* elapse(hours(2))
        yield* prune({ maxAge: hours(72) })
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "dead")
      }))

    it.effect("does a bounded part at a time, and all in the end", () =>
      Effect.gen(function*() {
        const { elapse, prune, settleAll, store, write } = yield* setUp
        const deliveries = Array.from({ length: 25 }, () => newDelivery())
        yield* write(...deliveries)
        yield* settleAll(...deliveries.map(({ id }): Settlement => ({
          id,
          key: keyOf("a"),
          attempt: undefined,
          become: "delivered"
        })))
        yield* prune({})
        yield* elapse(hours(25))
        assert.isTrue(yield* store.prune({ ...keep, delivered: hours(24) }, 10))
        const left = yield* Effect.filter(
          deliveries,
          ({ id }) => Effect.map(store.load(id), (one) => one !== undefined)
        )
        assert.isAtLeast(left.length, 15)
        yield* prune({ delivered: hours(24) }, 10)
        for (const { id } of deliveries) assert.isUndefined(yield* store.load(id))
      }))

    it.effect("corrects what is due too far ahead, since the clock was set back", () =>
      Effect.gen(function*() {
        const database = yield* (yield* Databases).create
        const [underWay, waiting] = [newDelivery({ to: "a" }), newDelivery({ to: "b" })]
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* database.open("one")
          yield* store.write({ deliveries: [underWay, waiting], settlements: [] })
          const become = { retryIn: longestDelay }
          yield* store.write({
            deliveries: [],
            settlements: [numbered({ id: waiting.id, key: keyOf("b"), attempt: undefined, become })]
          })
        }))
        yield* database.setBack(hours(50))
        const store = yield* database.open("two")
        yield* store.prune(keep, 100)
        yield* database.elapse(longestDelay + leaseMillis)
        assert.sameMembers([...yield* store.due(keysOf("ab"))], keysOf("ab"))
      }))

    it.effect("makes nothing wait that was due in seconds when the clock was set back by an hour", () =>
      Effect.gen(function*() {
        const database = yield* (yield* Databases).create
        const delivery = newDelivery()
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* database.open("one")
          yield* store.write({ deliveries: [delivery], settlements: [] })
          yield* store.write({
            deliveries: [],
            settlements: [
              numbered({ id: delivery.id, key: keyOf("a"), attempt: undefined, become: { retryIn: 4_000 } })
            ]
          })
          yield* store.prune(keep, 100)
          assert.deepStrictEqual(yield* store.due(keysOf("a")), [])
        }))
        yield* database.setBack(hours(1))
        const store = yield* database.open("two")
        yield* store.prune(keep, 100)
        yield* database.elapse(5_000)
        assert.deepStrictEqual(yield* store.due(keysOf("a")), keysOf("a"))
      }))

    it.effect("leaves the backlog alone when the clock is set ahead by some hours", () =>
      Effect.gen(function*() {
        const database = yield* (yield* Databases).create
        const [waiting, done] = [newDelivery(), newDelivery({ to: "b" })]
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* database.open("one")
          yield* store.write({ deliveries: [waiting, done], settlements: [] })
          yield* store.write({
            deliveries: [],
            settlements: [
              numbered({ id: waiting.id, key: keyOf("a"), attempt: undefined, become: { retryIn: 4_000 } }),
              numbered({ id: done.id, key: keyOf("b"), attempt: undefined, become: "delivered" })
            ]
          })
          yield* store.prune(keep, 100)
        }))
        yield* database.setBack(-hours(10))
        const store = yield* database.open("two")
        while (yield* store.prune({ ...keep, delivered: hours(24), maxAge: hours(72) }, 100)) yield* Effect.void
        const claimed = yield* store.claim(keyOf("a"), 10, "oldest")
        assert.deepStrictEqual(claimed.map(({ id }) => id), [waiting.id])
        assert.isDefined(yield* store.load(done.id))
        assert.deepStrictEqual(idsOf(yield* store.list({ age: hours(10) }, { limit: 10 })), [done.id, waiting.id])
      }))

    it.effect("leaves due times alone that may be right", () =>
      Effect.gen(function*() {
        const { prune, row, settle, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* settle(delivery.id, "a", { retryIn: longestDelay })
        const { dueAt } = yield* row(delivery.id, "a")
        yield* prune({})
        assert.strictEqual((yield* row(delivery.id, "a")).dueAt, dueAt)
      }))

    it.effect("leaves a row with its owner for as long as the lease is, be it hours", () =>
      Effect.gen(function*() {
        const database = yield* (yield* Databases).create
        const store = yield* database.open("one", hours(2))
        yield* store.write({ deliveries: [newDelivery()], settlements: [] })
        yield* store.prune(keep, 100)
        assert.deepStrictEqual(yield* store.due(keysOf("a")), [])
        yield* database.elapse(hours(2))
        assert.deepStrictEqual(yield* store.due(keysOf("a")), keysOf("a"))
      }))
  })
}
