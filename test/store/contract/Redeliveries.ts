/** Deliveries that GitHub sends again. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import { leaseMillis } from "../../../src/store/contract/Row.ts"
import { attemptOf, type Described, newDelivery, newId } from "../../support/StoreDatabases.ts"
import { again, type ContractIt, hours, keysOf, setUp, sorted } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("recognising a redelivery", () => {
    it.effect("by hook, GUID and body together", () =>
      Effect.gen(function*() {
        const { write } = yield* setUp
        const delivery = newDelivery({ hookId: "7", guid: "same" })
        yield* write(delivery)
        const [recorded] = yield* write({
          ...delivery,
          id: newId(),
          headers: ["X-Other", "header"],
          target: "/other"
        })
        assert.isTrue(recorded?.isRedelivery)
        assert.strictEqual(recorded?.id, delivery.id)
      }))

    it.effect.each(
      [
        ["of another hook", { hookId: "8" }],
        ["with another body, as a replayed one would have", { body: Buffer.from("replayed") }],
        ["with another GUID", { guid: "other" }],
        ["without a GUID", { guid: undefined }]
      ] as ReadonlyArray<readonly [string, Described]>
    )("takes a delivery for a new one that is %s", ([, difference]) =>
      Effect.gen(function*() {
        const { listed, write } = yield* setUp
        const known = { hookId: "7", guid: "same", body: Buffer.from("body") }
        const other = newDelivery({ ...known, ...difference })
        yield* write(newDelivery({ ...known }))
        assert.deepStrictEqual(yield* write(other), [{ id: other.id, isRedelivery: false, owned: keysOf("a") }])
        assert.strictEqual((yield* listed({})).length, 2)
      }))

    it.effect("never without a GUID", () =>
      Effect.gen(function*() {
        const { listed, write } = yield* setUp
        const deliveries = [1, 2].map(() => newDelivery({ guid: undefined, body: Buffer.from("same") }))
        const recorded = [...yield* write(deliveries[0]!), ...yield* write(deliveries[1]!)]
        assert.deepStrictEqual(recorded.map(({ isRedelivery }) => isRedelivery), [false, false])
        assert.strictEqual((yield* listed({})).length, 2)
      }))

    it.effect("within one write: the second finds the first's attempts under way", () =>
      Effect.gen(function*() {
        const { listed, row, write } = yield* setUp
        const first = newDelivery({ to: "a", heldFor: "b" })
        const second = again(first, { to: "abc" })
        assert.deepStrictEqual(yield* write(first, second), [
          { id: first.id, isRedelivery: false, owned: keysOf("a") },
          { id: first.id, isRedelivery: true, owned: keysOf("bc") }
        ])
        for (const name of "abc") assert.isTrue((yield* row(first.id, name)).underWay)
        assert.deepStrictEqual(yield* listed({}), [first.id])
      }))

    it.effect("among many that are written at once: each backend's row has one owner", () =>
      Effect.gen(function*() {
        const { listed, store } = yield* setUp
        const first = newDelivery({ to: "ab" })
        const all = [first, ...Array.from({ length: 19 }, () => again(first, { to: "ab" }))]
        const recorded = yield* Effect.forEach(
          all,
          (delivery) => store.write({ deliveries: [delivery], settlements: [] }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(recorded.filter(([one]) => one?.isRedelivery === false).length, 1)
        assert.deepStrictEqual(sorted(recorded.flatMap(([one]) => one!.owned)), keysOf("ab"))
        assert.strictEqual((yield* listed({})).length, 1)
      }))
  })

  describe("a redelivery", () => {
    it.effect("goes only to backends that do not have it, and on which no attempt is under way", () =>
      Effect.gen(function*() {
        const { cancel, row, settle, write } = yield* setUp
        const delivery = newDelivery({ to: "abcdefg" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        yield* settle(delivery.id, "b", "rejected")
        yield* settle(delivery.id, "c", "dead")
        yield* cancel("d")
        yield* settle(delivery.id, "e", { retryIn: 60_000 })
        yield* settle(delivery.id, "f", { retryIn: 0 })
        const [recorded] = yield* write(again(delivery, { to: "abcdefgh" }))
        assert.deepStrictEqual(recorded, { id: delivery.id, isRedelivery: true, owned: keysOf("cdefh") })
        for (const name of "cdefgh") assert.isTrue((yield* row(delivery.id, name)).underWay, name)
        assert.strictEqual((yield* row(delivery.id, "a")).state, "delivered")
        assert.strictEqual((yield* row(delivery.id, "b")).state, "rejected")
      }))

    it.effect("goes to all if all have it: somebody asked on purpose", () =>
      Effect.gen(function*() {
        const { row, settle, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        yield* settle(delivery.id, "b", "rejected")
        const [recorded] = yield* write(again(delivery, { to: "ab" }))
        assert.deepStrictEqual(recorded?.owned, keysOf("ab"))
        assert.isTrue((yield* row(delivery.id, "a")).underWay)
      }))

    it.effect("goes nowhere while the last attempt that is missing is under way", () =>
      Effect.gen(function*() {
        const { row, settle, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        const [recorded] = yield* write(again(delivery, { to: "ab" }))
        assert.deepStrictEqual(recorded?.owned, [])
        assert.strictEqual((yield* row(delivery.id, "a")).state, "delivered")
      }))

    it.effect("takes over a row whose owner let its lease lapse", () =>
      Effect.gen(function*() {
        const { elapse, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* elapse(leaseMillis)
        const [recorded] = yield* write(again(delivery, { to: "a" }))
        assert.deepStrictEqual(recorded?.owned, keysOf("a"))
      }))

    it.effect("leaves backends alone that it does not go to", () =>
      Effect.gen(function*() {
        const { row, settle, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "dead")
        yield* settle(delivery.id, "b", "delivered")
        const [recorded] = yield* write(again(delivery, { to: "b" }))
        assert.deepStrictEqual(recorded?.owned, keysOf("b"))
        assert.strictEqual((yield* row(delivery.id, "a")).state, "dead")
      }))

    it.effect("makes held rows due, and nobody's", () =>
      Effect.gen(function*() {
        const { claim, settle, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "dead")
        yield* settle(delivery.id, "b", "delivered")
        const [recorded] = yield* write(again(delivery, { heldFor: "abc" }))
        assert.deepStrictEqual(recorded?.owned, [])
        assert.deepStrictEqual([yield* claim("a"), yield* claim("b"), yield* claim("c")], [
          [delivery.id],
          [],
          [delivery.id]
        ])
      }))

    it.effect("begins a delivering of its own", () =>
      Effect.gen(function*() {
        const { elapse, now, row, settle, view, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        const receivedAt = yield* now
        yield* settle(delivery.id, "a", "dead", attemptOf(receivedAt))
        yield* elapse(hours(80))
        yield* write(again(delivery, { to: "a" }))
        const { settledAt, since, state } = yield* row(delivery.id, "a")
        assert.deepStrictEqual([state, since, settledAt], ["pending", yield* now, undefined])
        const { attempts, receivedAt: kept } = yield* view(delivery.id)
        assert.strictEqual(kept, receivedAt)
        assert.strictEqual(attempts.length, 1)
      }))

    it.effect("brings back a body that was gone", () =>
      Effect.gen(function*() {
        const { elapse, prune, settle, store, write } = yield* setUp
        const delivery = newDelivery({ body: randomBytes(1_000) })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered")
        yield* elapse(hours(2))
        yield* prune({ delivered: hours(1) })
        assert.isUndefined(yield* store.load(delivery.id))
        const [recorded] = yield* write(again(delivery, { to: "a" }))
        assert.deepStrictEqual(recorded?.owned, keysOf("a"))
        assert.deepStrictEqual((yield* store.load(recorded!.id))?.body, Buffer.concat(delivery.body))
        yield* prune({ delivered: hours(1) })
        assert.isDefined(yield* store.load(recorded!.id), "it is needed")
      }))
  })
}
