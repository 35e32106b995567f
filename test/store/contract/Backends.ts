/** Dynamic backends. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as BackendFilter from "../../../src/domain/BackendFilter.ts"
import { keyOf, newDelivery } from "../../support/StoreDatabases.ts"
import { type ContractIt, hours, keysOf, setUp, stateOf, type Store } from "./Subject.ts"

const clear = (store: Store) => store.clearBackends(new Set())

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
        assert.deepStrictEqual(
          backends.map((one) => ({ key: one.key, url: one.url, since: one.registeredAt, until: one.expiresAt })),
          [
            { key: keyOf("a"), url: "http://other/", since: registeredAt, until: registeredAt + 61_000 },
            { key: keyOf("b"), url: keyOf("b"), since: registeredAt, until: registeredAt + 6_000 }
          ]
        )
        for (const [at, ttl] of [60_000, 5_000].entries()) {
          assert.isAbove(backends[at]!.expiresIn!, ttl - 1_000)
          assert.isAtMost(backends[at]!.expiresIn!, ttl)
        }
        yield* put("b", undefined, 2)
        assert.isUndefined((yield* store.backends).find(({ key }) => key === keyOf("b"))?.expiresAt)
      }))

    it.effect("have the filter that they were registered with last", () =>
      Effect.gen(function*() {
        const { store } = yield* setUp
        const put = (filter: BackendFilter.BackendFilter | undefined) =>
          store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined, filter }, 1)
        const filter = Effect.map(store.backends, ([backend]) => backend?.filter)
        const all = BackendFilter.make(["org/repo", "other/*"], ["push", "pull_request"])
        yield* put(all)
        assert.deepStrictEqual(yield* filter, all)
        yield* put(BackendFilter.make(undefined, ["push"]))
        assert.deepStrictEqual(yield* filter, BackendFilter.make(undefined, ["push"]))
        yield* put(undefined)
        assert.isUndefined(yield* filter)
        yield* put(all)
        yield* store.deleteBackend(keyOf("a"))
        yield* put(undefined)
        assert.isUndefined(yield* filter)
      }))

    it.effect("are failing from the first time that this is noted until something arrives", () =>
      Effect.gen(function*() {
        const { elapse, store } = yield* setUp
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 1)
        const failingFor = Effect.map(store.backends, ([backend]) => backend?.failingFor)
        assert.isUndefined(yield* failingFor)
        yield* store.noteFailing(keyOf("a"), true)
        yield* elapse(10_000)
        yield* store.noteFailing(keyOf("a"), true)
        yield* elapse(10_000)
        assert.isAtLeast((yield* failingFor)!, 20_000)
        assert.isBelow((yield* failingFor)!, 30_000)
        yield* store.noteFailing(keyOf("a"), false)
        assert.isUndefined(yield* failingFor)
        yield* store.noteFailing(keyOf("a"), true)
        yield* elapse(1_000)
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 1)
        assert.isUndefined(yield* failingFor)
        yield* store.noteFailing(keyOf("unknown"), true)
      }))

    it.effect("that have been failing for long enough are removed, and take their pending rows with them", () =>
      Effect.gen(function*() {
        const { elapse, row, store, write } = yield* setUp
        for (const name of "ab") yield* store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined }, 10)
        const pending = newDelivery({ heldFor: "ab" })
        yield* write(pending)
        assert.isFalse(yield* store.deleteDeadBackend(keyOf("a"), 0))
        yield* store.noteFailing(keyOf("a"), true)
        yield* elapse(20_000)
        assert.isFalse(yield* store.deleteDeadBackend(keyOf("a"), 60_000))
        assert.isTrue(yield* store.deleteDeadBackend(keyOf("a"), 15_000))
        assert.isFalse(yield* store.deleteDeadBackend(keyOf("a"), 15_000))
        assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), [keyOf("b")])
        yield* clear(store)
        assert.strictEqual((yield* row(pending.id, "a")).state, "cancelled")
        assert.strictEqual((yield* row(pending.id, "b")).state, "pending")
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
        assert.isFalse(yield* store.deleteDeadBackend(keyOf("a"), 0))
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
        assert.deepStrictEqual(yield* store.backends, [])
        // The next call finishes what an interrupted one has begun.
        const clearing = yield* Effect.forkChild(clear(store), { startImmediately: true })
        yield* Effect.yieldNow
        yield* Fiber.interrupt(clearing)
        yield* clear(store)
        assert.isFalse(yield* isDue("a"))
        assert.deepStrictEqual(yield* listed({ state: "pending" }), [])
        assert.deepStrictEqual(yield* store.backlogs, [])
      }))

    it.effect("take rows with them that are written for a while after they are gone", () =>
      Effect.gen(function*() {
        const { elapse, row, store, write } = yield* setUp
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
        yield* store.deleteBackend(keyOf("a"))
        const [late, later, afresh] = [newDelivery(), newDelivery(), newDelivery({ to: "b" })]
        yield* elapse(2_000)
        yield* write(late)
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(late.id, "a")), "cancelled")
        yield* elapse(60_000)
        yield* clear(store)
        yield* write(later)
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(later.id, "a")), "pending")
        // One that comes back in between is as new.
        yield* store.putBackend({ key: keyOf("b"), url: keyOf("b"), ttl: undefined }, 1)
        yield* store.deleteBackend(keyOf("b"))
        assert.strictEqual(yield* store.putBackend({ key: keyOf("b"), url: keyOf("b"), ttl: undefined }, 1), "added")
        yield* write(afresh)
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(afresh.id, "b")), "pending")
      }))

    it.effect("leave the rows of one that is a backend by another right", () =>
      Effect.gen(function*() {
        const { elapse, row, store, write } = yield* setUp
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: 1_000 }, 10)
        const delivery = newDelivery()
        yield* write(delivery)
        yield* elapse(2_000)
        yield* store.clearBackends(new Set([keyOf("a")]))
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
      }))

    it.effect("are not changed by what was decided before their last change and comes late", () =>
      Effect.gen(function*() {
        const { elapse, row, store, write } = yield* setUp
        const [key, url] = [keyOf("a"), keyOf("a")]
        yield* elapse(100_000)
        yield* store.putBackend({ key, url, ttl: undefined }, 10)
        yield* elapse(10_000)
        // Somebody who was cut off had unregistered it before it was registered anew.
        yield* store.deleteBackend(key)
        yield* elapse(10_000)
        assert.strictEqual(yield* store.putBackend({ key, url, ttl: undefined }, 10), "added")
        const delivery = newDelivery()
        yield* write(delivery)
        yield* elapse(1_000)
        assert.isFalse(yield* store.deleteBackend(key, 15_000))
        assert.strictEqual(
          yield* store.putBackend({ key, url: "http://late/", ttl: 5_000, age: 15_000 }, 10),
          "superseded"
        )
        assert.deepInclude((yield* store.backends)[0], { key, url, expiresIn: undefined })
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
        // After it, though late.
        assert.strictEqual(
          yield* store.putBackend({ key, url: "http://late/", ttl: undefined, age: 900 }, 10),
          "renewed"
        )
        assert.strictEqual((yield* store.backends)[0]?.url, "http://late/")
        assert.isTrue(yield* store.deleteBackend(key, 100))
        assert.deepStrictEqual(yield* store.backends, [])
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "cancelled")
      }))

    it.effect("that are gone do not come back with what was decided before, however late it comes", () =>
      Effect.gen(function*() {
        const { elapse, store } = yield* setUp
        const put = (name: string, age: number) =>
          store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined, age }, 10)
        yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
        yield* store.deleteBackend(keyOf("a"))
        // It was never seen here: whoever registered it is cut off still.
        assert.isTrue(yield* store.deleteBackend(keyOf("b"), 5_000))
        assert.deepStrictEqual(yield* store.backends, [])
        for (const later of [10_000, 70_000, hours(24)]) {
          yield* elapse(later)
          yield* clear(store)
          yield* clear(store)
          const since = later === 10_000 ? 10_000 : later === 70_000 ? 80_000 : 80_000 + hours(24)
          assert.strictEqual(yield* put("a", since + 1_000), "superseded")
          assert.strictEqual(yield* put("b", since + 6_000), "superseded")
        }
        assert.strictEqual(yield* put("b", 1_000), "added")
        assert.strictEqual(yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10), "added")
      }))

    it.effect("that are gone are forgotten in the end", () =>
      Effect.gen(function*() {
        const { elapse, store } = yield* setUp
        const put = (name: string, age = 0) =>
          store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined, age }, 1)
        for (const name of ["a", "b"]) {
          yield* put(name)
          yield* store.deleteBackend(keyOf(name))
          yield* elapse(hours(170))
          yield* clear(store)
          yield* clear(store)
        }
        assert.strictEqual(yield* put("a", hours(400)), "added")
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
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
        yield* elapse(2)
        assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("bc"))
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "cancelled")
        assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "pending")
        yield* elapse(hours(1_000))
        yield* clear(store)
        assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "cancelled")
        assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("c"))
      }))
  })
}
