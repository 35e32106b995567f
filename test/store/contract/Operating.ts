/** The contract for operators: listing, showing and redelivering. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type DeliveryFilter, mostShown, type RowName, rowsOnPage } from "../../../src/store/contract/Operator.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import { leaseMillis, type Settlement } from "../../../src/store/contract/Row.ts"
import { attemptOf, keyOf, newDelivery } from "../../support/StoreDatabases.ts"
import { type ContractIt, hours, keysOf, setUp, sorted, stateOf } from "./Subject.ts"

const idOfDay = (day: number) => `0000000${day}-0000-7000-8000-000000000000`

export const tests = (it: ContractIt) => {
  describe("listing", () => {
    it.effect("ends a page where there would be too many rows on it, and goes on after that", () =>
      Effect.gen(function*() {
        const { store, write } = yield* setUp
        const targets = Array.from({ length: Math.floor(rowsOnPage / 2) }, (_, at) => {
          const key = keyOf(`b${at}`)
          return { key, url: key, held: true }
        })
        const deliveries = [1, 2, 3].map(() => Object.assign(newDelivery(), { targets }))
        for (const delivery of deliveries) yield* write(delivery)
        const [first, second, third] = deliveries.map(({ id }) => id)
        const page = yield* store.list({}, { limit: 3 })
        assert.deepStrictEqual([page.deliveries.map(({ id }) => id), page.next], [[third, second], second])
        const rest = yield* store.list({}, { limit: 3, after: page.next })
        assert.deepStrictEqual([rest.deliveries.map(({ id }) => id), rest.next], [[first], undefined])
        assert.lengthOf(rest.deliveries[0]!.rows, targets.length)
      }))

    it.effect("shows the newest of very many with one GUID", () =>
      Effect.gen(function*() {
        const { store, write } = yield* setUp
        const copies = Array.from({ length: mostShown + 5 }, (_, hook) =>
          newDelivery({ guid: "g", hookId: String(hook) }))
        yield* write(...copies)
        const newest = copies.map(({ id }) =>
          id
        ).toReversed().slice(0, mostShown)
        assert.deepStrictEqual((yield* store.show("g")).map(({ id }) => id), newest)
      }))

    it.effect("shows the newest first, with all rows", () =>
      Effect.gen(function*() {
        const { now, store, write } = yield* setUp
        const [first, second] = [newDelivery({ to: "a" }), newDelivery({ to: "b", heldFor: "c", hookId: "77" })]
        yield* write(first)
        yield* write(second)
        const at = yield* now
        const { deliveries, next } = yield* store.list({}, { limit: 10 })
        assert.isUndefined(next)
        assert.deepStrictEqual(deliveries.map(({ id }) => id), [second.id, first.id])
        const { rows, ...view } = deliveries[0]!
        assert.deepStrictEqual(view, {
          id: second.id,
          requestId: second.requestId,
          hookId: "77",
          guid: second.guid,
          event: "push",
          receivedAt: at,
          bodyLength: Buffer.concat(second.body).length,
          hasBody: true
        })
        const row = { state: "pending", since: at, tries: 0, lastOutcome: undefined, settledAt: undefined } as const
        assert.deepStrictEqual(rows.toSorted((a, b) => a.key < b.key ? -1 : 1), [
          { ...row, key: keyOf("b"), url: `${keyOf("b")}/`, dueAt: at + leaseMillis, underWay: true },
          { ...row, key: keyOf("c"), url: `${keyOf("c")}/`, dueAt: at, underWay: false }
        ])
      }))

    it.effect("filters by what one row is, and by what the delivery is", () =>
      Effect.gen(function*() {
        const { elapse, listed, now, settle, write } = yield* setUp
        const first = newDelivery({ to: "ab", event: "push", guid: "one" })
        const second = newDelivery({ to: "ab", event: "pull_request", guid: "two" })
        const third = newDelivery({ to: "b", event: undefined, guid: undefined })
        yield* write(first)
        yield* elapse(1_000)
        const since = yield* now
        yield* write(second)
        yield* elapse(1_000)
        yield* write(third)
        yield* settle(first.id, "a", "dead")
        yield* settle(first.id, "b", "delivered")
        yield* settle(second.id, "b", "dead")
        const cases: ReadonlyArray<readonly [DeliveryFilter, ReadonlyArray<NewDelivery>]> = [
          [{}, [third, second, first]],
          [{ state: "dead" }, [second, first]],
          [{ state: "delivered" }, [first]],
          [{ state: "rejected" }, []],
          [{ backend: keyOf("a") }, [second, first]],
          [{ state: "dead", backend: keyOf("a") }, [first]],
          [{ state: "delivered", backend: keyOf("a") }, []],
          [{ state: "pending", backend: keyOf("b") }, [third]],
          [{ event: "pull_request" }, [second]],
          [{ guid: "one" }, [first]],
          [{ guid: "" }, []],
          [{ since }, [third, second]],
          [{ since: since + 1 }, [third]],
          [{ age: 1_000 }, [third, second]],
          [{ age: 999, state: "pending" }, [third]],
          [{ age: 2_000, since, backend: keyOf("a") }, [second]],
          [{ since, state: "dead", event: "pull_request", guid: "two", backend: keyOf("b") }, [second]],
          [{ since, state: "dead", event: "push" }, []]
        ]
        for (const [filter, expected] of cases) {
          assert.deepStrictEqual(yield* listed(filter), expected.map(({ id }) => id), JSON.stringify(filter))
        }
      }))

    it.effect("finds what was received in a time, whatever the clock of who made its id", () =>
      Effect.gen(function*() {
        const { elapse, listed, settle, store, write } = yield* setUp
        // The replica that writes last is behind, and one is ahead.
        const [first, second, third] = [
          newDelivery({ id: idOfDay(5) }),
          newDelivery({ id: idOfDay(9) }),
          newDelivery({ id: idOfDay(1), event: "release" })
        ] as const
        for (const delivery of [first, second, third]) {
          yield* write(delivery)
          yield* elapse(1_000)
        }
        yield* settle(third.id, "a", "dead")
        assert.deepStrictEqual(yield* listed({}), [second.id, first.id, third.id])
        assert.deepStrictEqual(yield* listed({ age: 2_000 }), [second.id, third.id])
        assert.deepStrictEqual(yield* listed({ age: 1_000 }), [third.id])
        for (const filter of [{ event: "release" }, { age: 1_000, state: "dead", event: "release" }] as const) {
          assert.deepStrictEqual(yield* listed(filter), [third.id])
        }
        assert.deepStrictEqual(yield* listed({ age: 1_000, state: "dead", event: "push" }), [])
        assert.deepInclude(yield* store.redeliver({ age: 1_000 }, 10), { redelivered: 1, remaining: 0 })
      }))

    it.effect("pages without gaps and repeats, while deliveries come", () =>
      Effect.gen(function*() {
        const { settleAll, store, write } = yield* setUp
        const deliveries = Array.from({ length: 20 }, () => newDelivery())
        yield* write(...deliveries)
        yield* settleAll(
          ...deliveries.filter((_, at) => at % 2 === 0).map(({ id }): Settlement => ({
            id,
            key: keyOf("a"),
            attempt: undefined,
            become: "dead"
          }))
        )
        const pages = Effect.fnUntraced(function*(filter: DeliveryFilter, limit: number) {
          const ids: Array<string> = []
          const lengths: Array<number> = []
          let after: string | undefined
          do {
            const page = yield* store.list(filter, { limit, after })
            ids.push(...page.deliveries.map(({ id }) => id))
            lengths.push(page.deliveries.length)
            after = page.next
            yield* write(newDelivery({ to: "z", event: "later" }))
          } while (after !== undefined)
          return { ids, lengths }
        })
        const expected = deliveries.map(({ id }) => id).toReversed()
        const all = yield* pages({ backend: keyOf("a") }, 8)
        assert.deepStrictEqual(all, { ids: expected, lengths: [8, 8, 4] })
        // The last page is known to be it even when it is full.
        const dead = yield* pages({ state: "dead", event: "push" }, 5)
        assert.deepStrictEqual(dead, { ids: expected.filter((_, at) => at % 2 === 1), lengths: [5, 5] })
      }))

    it.effect("shows all deliveries of a GUID, and one by its id, each with its attempts", () =>
      Effect.gen(function*() {
        const { settle, store, write } = yield* setUp
        const [one, other] = [
          newDelivery({ guid: "shared", hookId: "1", to: "ab" }),
          newDelivery({ guid: "shared", hookId: "2" })
        ]
        yield* write(one, other)
        yield* settle(one.id, "a", { retryIn: 0 }, attemptOf(1))
        yield* settle(one.id, "b", "delivered", attemptOf(2, { outcome: "delivered" }))
        const shown = yield* store.show("shared")
        assert.deepStrictEqual(shown.map(({ id }) => id), [other.id, one.id])
        assert.deepStrictEqual(shown.map(({ attempts }) => attempts.map(({ at, key }) => [at, key])), [
          [],
          [[1, keyOf("a")], [2, keyOf("b")]]
        ])
        assert.deepStrictEqual((yield* store.show(one.id)).map(({ id }) => id), [one.id])
      }))
  })

  describe("asking for rows again", () => {
    it.effect("makes them pending and due, as if just received", () =>
      Effect.gen(function*() {
        const { cancel, elapse, isDue, now, row, settle, store, write } = yield* setUp
        const delivery = newDelivery({ to: "abcd" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "dead", attemptOf(1))
        yield* settle(delivery.id, "b", "delivered", attemptOf(1))
        yield* settle(delivery.id, "c", "rejected", attemptOf(1))
        yield* cancel("d")
        yield* elapse(hours(90))
        assert.deepStrictEqual(yield* store.redeliver({ id: delivery.id }, 10), {
          redelivered: 4,
          remaining: 0,
          next: undefined
        })
        for (const name of "abcd") {
          assert.deepInclude(yield* row(delivery.id, name), {
            state: "pending",
            since: yield* now,
            dueAt: yield* now,
            underWay: false,
            settledAt: undefined
          })
          assert.isTrue(yield* isDue(name))
        }
      }))

    it.effect("makes due at once what waits for its retry", () =>
      Effect.gen(function*() {
        const { claim, settle, store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* settle(delivery.id, "a", { retryIn: 300_000 })
        yield* store.redeliver({ guid: delivery.guid }, 10)
        assert.deepStrictEqual(yield* claim("a"), [delivery.id])
      }))

    it.effect("starts no second attempt beside one that is under way", () =>
      Effect.gen(function*() {
        const { isDue, row, store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* store.redeliver({ id: delivery.id }, 10)
        assert.isFalse(yield* isDue("a"))
        assert.isTrue((yield* row(delivery.id, "a")).underWay)
      }))

    it.effect("asks for each once, lot after lot, though what has been sent matches again", () =>
      Effect.gen(function*() {
        const { settleAll, store, write } = yield* setUp
        const deliveries = Array.from({ length: 7 }, () => newDelivery({ to: "ab" }))
        yield* write(...deliveries)
        const arrive = (rows: ReadonlyArray<{ readonly id: string; readonly key: string }>) =>
          settleAll(...rows.map(({ id, key }) => ({ id, key, attempt: attemptOf(1), become: "delivered" as const })))
        yield* arrive(deliveries.flatMap(({ id, targets }) => targets.map(({ key }) => ({ id, key }))))
        const lots: Array<number> = []
        let after: RowName | undefined
        do {
          const { next, redelivered } = yield* store.redeliver({ state: "delivered" }, 3, after)
          lots.push(redelivered)
          for (const key of keysOf("ab")) yield* arrive(yield* store.claim(key, 100, "oldest"))
          after = next
        } while (after !== undefined)
        assert.deepStrictEqual(lots, [3, 3, 3, 3, 2])
        for (const { id } of deliveries) {
          const [shown] = yield* store.show(id)
          assert.deepStrictEqual(sorted(shown!.attempts.map(({ key }) => key)), keysOf("aabb"))
        }
      }))

    it.effect("asks for what the filter matches, and says how much is beyond the limit", () =>
      Effect.gen(function*() {
        const { row, settle, store, write } = yield* setUp
        const deliveries = Array.from({ length: 5 }, () => newDelivery({ to: "ab" }))
        const other = newDelivery({ to: "a", event: "other" })
        yield* write(...deliveries, other)
        for (const { id } of deliveries) {
          yield* settle(id, "a", "dead")
          yield* settle(id, "b", "delivered")
        }
        yield* settle(other.id, "a", "dead")
        const filter = { state: "dead", backend: keyOf("a"), event: "push" } as const
        const ids = sorted(deliveries.map(({ id }) => id))
        const upTo = (at: number) => ({ id: ids[at]!, key: keyOf("a") })
        assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 2, remaining: 3, next: upTo(1) })
        assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 2, remaining: 1, next: upTo(3) })
        assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 1, remaining: 0, next: undefined })
        assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 0, remaining: 0, next: undefined })
        assert.strictEqual((yield* store.claim(keyOf("a"), 100, "oldest")).length, 5)
        assert.strictEqual(stateOf(yield* row(other.id, "a")), "dead")
        assert.strictEqual(stateOf(yield* row(deliveries[0]!.id, "b")), "delivered")
      }))

    it.effect("leaves alone what has no body any more", () =>
      Effect.gen(function*() {
        const { elapse, prune, row, settle, store, write } = yield* setUp
        const [gone, there] = [newDelivery(), newDelivery()]
        yield* write(gone, there)
        yield* settle(gone.id, "a", "delivered")
        yield* elapse(hours(2))
        yield* settle(there.id, "a", "delivered")
        yield* prune({ delivered: hours(1) })
        assert.deepInclude(yield* store.redeliver({ backend: keyOf("a") }, 10), { redelivered: 1, remaining: 0 })
        assert.strictEqual(stateOf(yield* row(gone.id, "a")), "delivered")
        assert.strictEqual(stateOf(yield* row(there.id, "a")), "pending")
      }))
  })
}
