/** The contract of settlements: what becomes of rows. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import { leaseMillis } from "../../../src/store/contract/Row.ts"
import { attemptOf, keyOf, newDelivery, newId, numbered } from "../../support/StoreDatabases.ts"
import { again, type ContractIt, eventually, hours, keysOf, outcomeOf, setUp, stateOf, withoutNul } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("settling", () => {
    it.effect.each(["delivered", "rejected", "dead"] as const)(
      "ends a row as %s, for good",
      (become) =>
        Effect.gen(function*() {
          const { elapse, isDue, now, row, settle, view, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* elapse(500)
          const attempt = attemptOf((yield* now) - 20, { outcome: become === "dead" ? "timed out" : become })
          yield* settle(delivery.id, "a", become, attempt)
          const settled = yield* row(delivery.id, "a")
          assert.deepInclude(settled, {
            state: become,
            tries: 1,
            underWay: false,
            dueAt: undefined,
            lastOutcome: attempt.outcome,
            settledAt: yield* now
          })
          assert.deepStrictEqual((yield* view(delivery.id)).attempts, [{ ...attempt, key: keyOf("a") }])
          yield* elapse(hours(100))
          assert.isFalse(yield* isDue("a"))
        })
    )

    it.effect("makes a row due when its retry is", () =>
      Effect.gen(function*() {
        const { elapse, isDue, now, row, settle, store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        const since = yield* now
        yield* settle(delivery.id, "a", { retryIn: 5_000 }, attemptOf(since))
        assert.deepInclude(yield* row(delivery.id, "a"), {
          state: "pending",
          dueAt: since + 5_000,
          underWay: false,
          settledAt: undefined,
          tries: 1,
          lastOutcome: "failed"
        })
        yield* elapse(4_999)
        assert.isFalse(yield* isDue("a"))
        yield* elapse(1)
        const [claimed] = yield* store.claim(keyOf("a"), 1, "oldest")
        assert.deepInclude(claimed, { id: delivery.id, tries: 1, age: 5_000 })
      }))

    it.effect("keeps the attempt of a first success beside those of a delivery that is asked for again", () =>
      Effect.gen(function*() {
        const { now, row, settle, store, view, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        const at = yield* now
        const attempts = [0, 1, 2].map((n) =>
          attemptOf(at + n, { outcome: "delivered", status: 200 + n, latency: 0.5 })
        )
        yield* settle(delivery.id, "a", "delivered", attempts[0])
        for (const attempt of attempts.slice(1)) {
          yield* store.redeliver({ id: delivery.id }, 1)
          yield* store.claim(keyOf("a"), 1, "oldest")
          yield* settle(delivery.id, "a", "delivered", attempt)
          assert.deepInclude(yield* row(delivery.id, "a"), { state: "delivered", tries: 1, lastOutcome: "delivered" })
        }
        const kept = (yield* view(delivery.id)).attempts
        assert.deepStrictEqual(
          kept.map((attempt) => ({ at: attempt.at, status: attempt.status, latency: attempt.latency })),
          attempts.map(({ at: ended, latency, status }) => ({ at: ended, status, latency }))
        )
      }))

    it.effect("counts a first success once, however often and beside whatever it is written", () =>
      Effect.gen(function*() {
        const { now, store, view, write } = yield* setUp
        const [one, other] = [newDelivery({ to: "ab" }), newDelivery()]
        yield* write(one, other)
        const at = yield* now
        const success = (id: string, name: string) =>
          numbered({ id, key: keyOf(name), attempt: attemptOf(at, { outcome: "delivered" }), become: "delivered" })
        const [first, second, third] = [success(one.id, "a"), success(one.id, "b"), success(other.id, "a")]
        const failed = numbered({ id: other.id, key: keyOf("a"), attempt: attemptOf(at - 1), become: { retryIn: 0 } })
        for (
          const settlements of [[first], [first, second], [failed, third], [third, first], [third, failed, second]]
        ) {
          yield* store.write({ deliveries: [], settlements })
        }
        yield* store.write({ deliveries: [one], settlements: [first, third] })
        const views = yield* Effect.forEach([one, other], ({ id }) => view(id))
        assert.deepStrictEqual(views.map(({ attempts }) => attempts.length), [2, 2])
        assert.deepStrictEqual(views.map(({ rows }) => rows.map(({ state, tries }) => [state, tries])), [
          [["delivered", 1], ["delivered", 1]],
          [["delivered", 2]]
        ])
        // An old word about what is under way anew.
        yield* store.redeliver({ id: one.id, backend: keyOf("a") }, 1)
        yield* store.redeliver({ id: other.id }, 1)
        yield* store.claim(keyOf("a"), 2, "oldest")
        yield* store.write({ deliveries: [], settlements: [third] })
        yield* store.write({ deliveries: [], settlements: [first] })
        for (const { id } of [one, other]) {
          assert.deepInclude((yield* view(id)).rows[0], { state: "pending", tries: 0, underWay: true })
        }
      }))

    it.effect("counts no attempt for a row that is given back without one", () =>
      Effect.gen(function*() {
        const { isDue, row, settle, view, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* settle(delivery.id, "a", { retryIn: 0 })
        assert.isTrue(yield* isDue("a"))
        assert.deepInclude(yield* row(delivery.id, "a"), { tries: 0, lastOutcome: undefined })
        assert.deepStrictEqual((yield* view(delivery.id)).attempts, [])
      }))

    it.effect("keeps each attempt with all that is known of it", () =>
      Effect.gen(function*() {
        const { now, settle, view, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        const at = yield* now
        const attempts = [
          attemptOf(at, { outcome: "unreachable", status: undefined, error: "ECONNREFUSED", latency: 0.25 }),
          attemptOf(at + 1, { status: 503, answer: "<html>na\u00efve \u0000 \ud83d\ude80" }),
          attemptOf(at + 2, { outcome: "timed out", status: undefined, latency: 15_000 })
        ]
        for (const attempt of attempts) {
          yield* settle(delivery.id, "a", { retryIn: 0 }, attempt)
        }
        const kept = (yield* view(delivery.id)).attempts
        assert.deepStrictEqual(
          kept.map(withoutNul),
          attempts.map((attempt) => withoutNul({ ...attempt, key: keyOf("a") }))
        )
      }))

    it.effect("ignores what is said of a row that is not there, and takes the rest", () =>
      Effect.gen(function*() {
        const { row, settleAll, view, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* settleAll(
          { id: newId(), key: keyOf("a"), attempt: attemptOf(1), become: "delivered" },
          { id: delivery.id, key: keyOf("z"), attempt: attemptOf(1), become: "delivered" },
          { id: delivery.id, key: keyOf("a"), attempt: attemptOf(2), become: "delivered" }
        )
        const { attempts, rows } = yield* view(delivery.id)
        assert.deepStrictEqual(rows.map(({ key }) => key), keysOf("a"))
        assert.deepStrictEqual(attempts.map(({ at }) => at), [2])
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
      }))

    it.effect("takes deliveries and outcomes in one write", () =>
      Effect.gen(function*() {
        const { row, store, write } = yield* setUp
        const [earlier, later] = [newDelivery(), newDelivery()]
        yield* write(earlier)
        yield* store.write({
          deliveries: [later],
          settlements: [numbered({ id: earlier.id, key: keyOf("a"), attempt: attemptOf(1), become: "delivered" })]
        })
        assert.strictEqual(stateOf(yield* row(earlier.id, "a")), "delivered")
        assert.isTrue((yield* row(later.id, "a")).underWay)
      }))

    it.effect("does not send to all again what GitHub sent again while the last outcome was on its way", () =>
      Effect.gen(function*() {
        const { row, store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        const [recorded] = yield* store.write({
          deliveries: [again(delivery, { to: "a" })],
          settlements: [numbered({ id: delivery.id, key: keyOf("a"), attempt: attemptOf(1), become: "delivered" })]
        })
        assert.deepStrictEqual(recorded, { id: delivery.id, isRedelivery: true, owned: [] })
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
      }))

    it.effect("takes several outcomes of one row in their order", () =>
      Effect.gen(function*() {
        const { row, settleAll, view, write } = yield* setUp
        const [done, waiting] = [newDelivery(), newDelivery()]
        yield* write(done, waiting)
        yield* settleAll(
          outcomeOf(done.id, 1, { retryIn: 1_000 }),
          outcomeOf(waiting.id, 1, { retryIn: 1_000 }),
          outcomeOf(done.id, 2, "delivered"),
          outcomeOf(waiting.id, 2, { retryIn: 9_000 }),
          outcomeOf(done.id, 3, { retryIn: 2_000 })
        )
        assert.strictEqual(stateOf(yield* row(done.id, "a")), "delivered")
        assert.deepStrictEqual((yield* view(done.id)).attempts.map(({ at }) => at), [1, 2, 3])
        assert.deepInclude(yield* row(waiting.id, "a"), { state: "pending", tries: 2 })
      }))

    it.effect("changes nothing about an end when an outcome is said again, or after it", () =>
      Effect.gen(function*() {
        const { isDue, row, settle, view, write } = yield* setUp
        const delivery = newDelivery({ to: "ab" })
        yield* write(delivery)
        yield* settle(delivery.id, "a", "delivered", attemptOf(1))
        yield* settle(delivery.id, "b", "dead", attemptOf(1))
        for (const become of ["dead", { retryIn: 0 }] as const) {
          yield* settle(delivery.id, "a", become, attemptOf(2))
          yield* settle(delivery.id, "b", become, attemptOf(2))
        }
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
        assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "dead")
        assert.isFalse((yield* isDue("a")) || (yield* isDue("b")))
        assert.strictEqual((yield* view(delivery.id)).attempts.length, 6)
      }))

    it.effect.each(["dead", "cancelled"] as const)(
      "believes a late success of a row that is %s",
      (state) =>
        Effect.gen(function*() {
          const { cancel, row, settle, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          for (const name of ["a", "b"]) {
            yield* state === "dead" ? settle(delivery.id, name, "dead") : cancel(name)
            assert.strictEqual(stateOf(yield* row(delivery.id, name)), state)
          }
          yield* settle(delivery.id, "a", { retryIn: 0 }, attemptOf(1))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), state)
          yield* settle(delivery.id, "a", "delivered", attemptOf(2, { outcome: "delivered" }))
          yield* settle(delivery.id, "b", "rejected", attemptOf(2, { outcome: "rejected" }))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
          assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "rejected")
        })
    )

    it.effect("changes nothing when the same outcomes are written again", () =>
      Effect.gen(function*() {
        const { elapse, now, settle, store, view, write } = yield* setUp
        const [failed, done, tried] = [newDelivery({ to: "ab" }), newDelivery(), newDelivery()] as const
        yield* write(failed, done, tried)
        const at = yield* now
        const settlements = [
          outcomeOf(failed.id, at, { retryIn: 5_000 }),
          outcomeOf(done.id, at, { retryIn: 1_000 }),
          outcomeOf(done.id, at, "delivered"),
          outcomeOf(tried.id, at, { retryIn: 60_000 }),
          { id: failed.id, key: keyOf("b"), attempt: attemptOf(at), become: "dead" as const }
        ].map(numbered)
        const views = () => Effect.forEach([failed, done, tried], ({ id }) => view(id))
        yield* store.write({ deliveries: [], settlements })
        const before = yield* views()
        yield* elapse(2_000)
        yield* store.write({ deliveries: [], settlements })
        assert.deepStrictEqual(yield* views(), before)
        assert.deepStrictEqual(before.map(({ rows }) => rows.map(({ tries }) => tries)), [[1, 1], [2], [1]])
        // Neither alone, nor beside a later one, nor beside a delivery that is known.
        const [later] = [outcomeOf(failed.id, at + 2_000, { retryIn: 9_000 })].map(numbered)
        yield* store.write({ deliveries: [], settlements: [...settlements, later!] })
        yield* store.write({ deliveries: [done], settlements: [settlements[0]!, later!] })
        assert.deepInclude((yield* view(failed.id)).rows[0], { tries: 2, dueAt: at + 2_000 + 9_000 })
        assert.strictEqual((yield* view(failed.id)).attempts.length, 3)
        // An old settlement does not give back a row that is under way again.
        yield* store.redeliver({ id: done.id }, 10)
        yield* store.claim(keyOf("a"), 10, "oldest")
        yield* store.write({ deliveries: [], settlements })
        assert.deepInclude((yield* view(done.id)).rows[0], { state: "pending", tries: 0, underWay: true })
        yield* settle(done.id, "a", "delivered", attemptOf(at + 3_000))
        assert.deepInclude((yield* view(done.id)).rows[0], { state: "delivered", tries: 1 })
      }))

    it.effect("takes the outcome of an owner whose lease is over, if nobody took the row", () =>
      Effect.gen(function*() {
        const { elapse, isDue, row, settle, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        yield* elapse(leaseMillis + 1)
        yield* settle(delivery.id, "a", { retryIn: 60_000 }, attemptOf(1))
        assert.isFalse(yield* isDue("a"))
        assert.strictEqual((yield* row(delivery.id, "a")).tries, 1)
      }))
  })

  describe("cancelling", () => {
    it.effect("ends a backend's pending rows, whatever they wait for, and no others", () =>
      Effect.gen(function*() {
        const { cancel, elapse, isDue, row, settle, write } = yield* setUp
        const [underWay, waiting, held, done] = [
          newDelivery({ to: "ab" }),
          newDelivery(),
          newDelivery({ heldFor: "a" }),
          newDelivery()
        ] as const
        yield* write(underWay, waiting, held, done)
        yield* settle(waiting.id, "a", { retryIn: 60_000 })
        yield* settle(done.id, "a", "delivered")
        yield* cancel("a")
        for (const { id } of [underWay, waiting, held]) {
          assert.strictEqual(stateOf(yield* row(id, "a")), "cancelled")
        }
        assert.strictEqual(stateOf(yield* row(done.id, "a")), "delivered")
        assert.isTrue((yield* row(underWay.id, "b")).underWay)
        yield* elapse(hours(1))
        assert.isFalse(yield* isDue("a"))
      }))
  })

  describe("counting", () => {
    it.effect("tells what each backend still has to get, for how long, and what it never got", () =>
      Effect.gen(function*() {
        const { elapse, settle, store, write } = yield* setUp
        const [first, second, third] = [
          newDelivery({ to: "abc" }),
          newDelivery({ to: "ab" }),
          newDelivery({ to: "a" })
        ]
        yield* write(first)
        yield* elapse(1_000)
        yield* write(second, third)
        yield* settle(first.id, "b", "dead")
        yield* settle(first.id, "c", "dead")
        yield* settle(second.id, "a", { retryIn: 5_000 })
        yield* settle(third.id, "a", "delivered")
        yield* elapse(500)
        const backlogs = (yield* store.backlogs).toSorted((a, b) => a.key < b.key ? -1 : 1)
        assert.deepStrictEqual(backlogs, [
          { key: keyOf("a"), pending: 2, dead: 0, oldestAge: 1_500 },
          { key: keyOf("b"), pending: 1, dead: 1, oldestAge: 500 },
          { key: keyOf("c"), pending: 0, dead: 1, oldestAge: undefined }
        ])
      }))

    it.effect("counts bodies towards what it takes up, until they are gone", () =>
      Effect.gen(function*() {
        const { elapse, prune, settle, store, write } = yield* setUp
        const before = yield* store.usage
        const deliveries = [1, 2, 3, 4].map(() => newDelivery({ body: randomBytes(500_000) }))
        yield* write(...deliveries)
        assert.isAtLeast(yield* store.usage, before + 1_990_000)
        for (const { id } of deliveries) yield* settle(id, "a", "delivered")
        yield* elapse(hours(2))
        yield* prune({ delivered: hours(1) })
        assert.isTrue(yield* eventually(store, Effect.map(store.usage, (bytes) => bytes < before + 500_000)))
      }))
  })
}
