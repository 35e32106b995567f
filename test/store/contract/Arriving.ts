/** Deliveries that arrive while they are missing, or after they went without the store: they fill gaps. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type { DeliveryView } from "../../../src/store/contract/Operator.ts"
import { answerMillis, type FallbackEnd } from "../../../src/store/contract/Recovery.ts"
import { keyOf, newDelivery, numbered } from "../../support/StoreDatabases.ts"
import { deliveryOf, endsOf, givenUp, missing, setUpRecovery } from "./RecoverySubject.ts"
import { again, type ContractIt, hours, keysOf, setUp, stateOf } from "./Subject.ts"

/** By backend. */
const statesOf = ({ rows }: Pick<DeliveryView, "rows">) => rows.toSorted((a, b) => a.key < b.key ? -1 : 1).map(stateOf)

export const tests = (it: ContractIt) => {
  describe("a missing delivery that arrives", () => {
    it.effect("is recovered, and goes to all backends", () =>
      Effect.gen(function*() {
        const { arrive, elapse, now, recall, recovery, row, store, want } = yield* setUpRecovery
        yield* want(missing("a", { failedAt: 7 }))
        yield* recovery.lead(1e9)
        yield* recovery.asking("a", 60_000)
        const askedAt = yield* now
        yield* elapse(3_000)
        assert.deepStrictEqual(yield* arrive("a", { to: "ab", heldFor: "c" }), keysOf("ab"))
        const [view] = yield* store.show("a")
        assert.deepStrictEqual(view?.recovery, {
          state: "recovered",
          failedAt: 7,
          asks: 1,
          askedAt,
          recoveredAt: yield* now,
          reason: undefined
        })
        assert.deepStrictEqual(yield* recall("a"), [
          { guid: "a", held: true, fallback: undefined, recovery: { state: "recovered", asks: 1 } }
        ])
        assert.isTrue((yield* row(view!.id, "a")).underWay)
        assert.isFalse((yield* row(view!.id, "c")).underWay)
        assert.isFalse(yield* recovery.asking("a", 60_000))
        yield* elapse(60_000)
        assert.deepStrictEqual(yield* recovery.wanted(10), [])
      }))

    it.effect("and that no backend wants is recovered, and nothing of it is kept", () =>
      Effect.gen(function*() {
        const { recall, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.keepFallbacks([endsOf("a", {}), endsOf("b", {})])
        assert.deepStrictEqual(yield* recall("a", "b"), [
          { guid: "a", held: false, fallback: undefined, recovery: { state: "recovered", asks: 0 } }
        ])
      }))

    it.effect("is recovered also before it was asked for, and after it was given up", () =>
      Effect.gen(function*() {
        const { arrive, recovery, store, want } = yield* setUpRecovery
        yield* want(missing("a"), missing("b"))
        yield* recovery.giveUp([givenUp("b", "too old")])
        yield* arrive("a")
        yield* arrive("b")
        for (const guid of ["a", "b"]) {
          const [view] = yield* store.show(guid)
          assert.deepInclude(view?.recovery, { state: "recovered", askedAt: undefined, reason: undefined }, guid)
        }
        assert.deepInclude(yield* recovery.recoveryCounts(), { recovered: 2, givenUp: 0 })
      }))

    it.effect("goes to nobody when it comes a second time soon after a request, and later to all", () =>
      Effect.gen(function*() {
        const { arrive, elapse, listed, recovery, settle, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.lead(1e9)
        yield* recovery.asking("a", 60_000)
        yield* arrive("a", { to: "ab" })
        const id = (yield* listed({}))[0]!
        assert.deepStrictEqual(yield* arrive("a", { to: "ab" }), [])
        yield* settle(id, "a", "delivered")
        yield* settle(id, "b", "rejected")
        assert.deepStrictEqual(yield* arrive("a", { to: "ab" }), [])
        assert.deepStrictEqual(yield* arrive("a", { to: "abc" }), keysOf("c"))
        yield* settle(id, "c", "delivered")
        yield* elapse(answerMillis)
        assert.deepStrictEqual(yield* arrive("a", { to: "abc" }), keysOf("abc"), "a person asked")
        assert.strictEqual((yield* listed({})).length, 1)
      }))

    it.effect("fills the gaps of one that the ledger holds", () =>
      Effect.gen(function*() {
        const { arrive, cancel, settle, want, write } = yield* setUpRecovery
        const held = deliveryOf("a", { to: "abcdef" })
        yield* write(held)
        yield* settle(held.id, "a", "delivered")
        yield* settle(held.id, "b", "rejected")
        yield* settle(held.id, "c", "dead")
        yield* cancel("d")
        yield* settle(held.id, "e", { retryIn: 60_000 })
        yield* want(missing("a"))
        assert.deepStrictEqual(yield* arrive("a", { to: "abcdefg" }), keysOf("deg"))
      }))

    it.effect("is an answer to the request of one hook only, once that is known", () =>
      Effect.gen(function*() {
        const { arrive, recall, recovery, store, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.advance({ hookId: "7" })
        yield* arrive("a", { hookId: "8" })
        assert.deepInclude((yield* recall("a"))[0], { recovery: { state: "wanted", asks: 0 } })
        const [theirs] = yield* store.show("a")
        assert.isUndefined(theirs?.recovery)
        yield* arrive("a", { hookId: "7" })
        assert.deepInclude((yield* recall("a"))[0], { recovery: { state: "recovered", asks: 0 } })
      }))

    it.effect("is written with others, known and new, and with outcomes", () =>
      Effect.gen(function*() {
        const { recall, recovery, row, store, want, write } = yield* setUpRecovery
        const known = newDelivery()
        yield* write(known)
        yield* want(missing("a"))
        yield* recovery.keepFallbacks([endsOf("b", { a: "delivered" })])
        const [arriving, fallback, fresh] = [deliveryOf("a"), deliveryOf("b", { to: "ab" }), newDelivery()] as const
        const large = newDelivery({ body: randomBytes(3e6) })
        const settlements = [numbered({ id: known.id, key: keyOf("a"), attempt: undefined, become: "delivered" })]
        const deliveries = [fresh, arriving, again(arriving, { to: "ac" }), fallback, large]
        const recorded = yield* store.write({ deliveries, settlements })
        assert.deepStrictEqual(recorded.map(({ owned }) => owned), ["a", "a", "c", "b", "a"].map(keysOf))
        assert.strictEqual(stateOf(yield* row(known.id, "a")), "delivered")
        assert.strictEqual(stateOf(yield* row(fallback.id, "a")), "delivered")
        assert.deepInclude((yield* recall("a"))[0], { held: true, recovery: { state: "recovered", asks: 0 } })
      }))

    it.effect("by a way of which recovery is not told is not asked for", () =>
      Effect.gen(function*() {
        const { now, recovery, store, want, write } = yield* setUpRecovery
        yield* write(deliveryOf("held"))
        yield* recovery.keepFallbacks([endsOf("done", { a: "delivered" }), endsOf("gaps", { a: undefined })])
        yield* want(missing("held"), missing("done"), missing("gaps"))
        yield* recovery.lead(60_000)
        assert.isFalse(yield* recovery.asking("held", 1_000))
        assert.isFalse(yield* recovery.asking("done", 1_000))
        assert.isTrue(yield* recovery.asking("gaps", 1_000))
        assert.deepInclude(yield* recovery.recoveryCounts(), { wanted: 0, asked: 1, recovered: 2 })
        assert.deepInclude((yield* store.show("held"))[0]?.recovery, { state: "recovered", recoveredAt: yield* now })
      }))

    it.effect("changes nothing more when the same write is made again", () =>
      Effect.gen(function*() {
        const { recovery, store, want, write } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.keepFallbacks([endsOf("b", { a: "delivered", b: undefined })])
        const deliveries = [deliveryOf("a", { to: "ab" }), deliveryOf("b", { to: "ab" })]
        const first = yield* write(...deliveries)
        const before = [yield* store.show("a"), yield* store.show("b")]
        assert.deepStrictEqual(yield* write(...deliveries), first)
        assert.deepStrictEqual([yield* store.show("a"), yield* store.show("b")], before)
      }))

    it.effect("has one owner for each row, however many come at once", () =>
      Effect.gen(function*() {
        const { recovery, store, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.keepFallbacks([endsOf("a", { a: "delivered", b: undefined, c: undefined })])
        const all = Array.from({ length: 20 }, () => deliveryOf("a", { to: "abc" }))
        const recorded = yield* Effect.forEach(
          all,
          (delivery) => store.write({ deliveries: [delivery], settlements: [] }),
          { concurrency: "unbounded" }
        )
        assert.sameMembers(recorded.flatMap(([one]) => one!.owned), keysOf("bc"))
      }))
  })

  describe("a delivery that went without the store", () => {
    it.effect("goes only to backends that lack it, and its rows tell of the others", () =>
      Effect.gen(function*() {
        const { arrive, listed, now, recall, recovery, view } = yield* setUpRecovery
        const ends = { a: "delivered", b: "rejected", c: undefined, d: "dead", gone: "delivered" } as const
        yield* recovery.keepFallbacks([endsOf("a", ends)])
        assert.deepStrictEqual(yield* arrive("a", { to: "abcde" }), keysOf("cde"), "a person asked")
        const id = (yield* listed({}))[0]!
        const { rows } = yield* view(id)
        assert.deepStrictEqual(statesOf({ rows }), ["delivered", "rejected", "pending", "pending", "pending"])
        assert.deepInclude(rows.find(({ key }) => key === keyOf("a")), { settledAt: yield* now, tries: 0 })
        assert.deepInclude((yield* recall("a"))[0], { held: true, fallback: undefined })
      }))

    it.effect("is not sent again to whom it may have reached, if nobody but recovery asks", () =>
      Effect.gen(function*() {
        const { arrive, listed, recovery, row, want } = yield* setUpRecovery
        yield* recovery.keepFallbacks([endsOf("a", { a: "dead", b: undefined })])
        yield* want(missing("a"))
        assert.deepStrictEqual(yield* arrive("a", { to: "ab" }), keysOf("b"))
        const id = (yield* listed({}))[0]!
        assert.strictEqual(stateOf(yield* row(id, "a")), "dead")
      }))

    it.effect("goes to all if all have it: somebody asked on purpose", () =>
      Effect.gen(function*() {
        const { arrive, recovery } = yield* setUpRecovery
        yield* recovery.keepFallbacks([endsOf("a", { a: "delivered", b: "rejected" })])
        assert.deepStrictEqual(yield* arrive("a", { to: "ab" }), keysOf("ab"))
      }))

    it.effect("goes to nobody if all have it and recovery asked, and is pruned like any other", () =>
      Effect.gen(function*() {
        const { arrive, elapse, listed, prune, recovery, store, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.lead(1e9)
        yield* recovery.asking("a", 60_000)
        yield* recovery.keepFallbacks([endsOf("a", { a: "delivered" })])
        assert.deepStrictEqual(yield* arrive("a"), [])
        const [id] = yield* listed({})
        yield* elapse(hours(2))
        yield* prune({ delivered: hours(1) })
        assert.isUndefined(yield* store.load(id!))
        yield* prune({ delivered: hours(1), dead: hours(1) })
        assert.deepStrictEqual(yield* listed({}), [])
      }))

    it.effect("is known by hook, GUID and body together", () =>
      Effect.gen(function*() {
        const { arrive, recovery } = yield* setUpRecovery
        yield* recovery.keepFallbacks([endsOf("a", { a: "delivered", b: undefined })])
        assert.deepStrictEqual(yield* arrive("a", { to: "ab", hookId: "8" }), keysOf("ab"))
        assert.deepStrictEqual(yield* arrive("a", { to: "ab", body: Buffer.from("replayed") }), keysOf("ab"))
        assert.deepStrictEqual(yield* arrive("a", { to: "ab" }), keysOf("b"))
      }))

    it.effect("several times has each backend's best end", () =>
      Effect.gen(function*() {
        const { arrive, recall, recovery } = yield* setUpRecovery
        yield* recovery.keepFallbacks([
          endsOf("a", { a: "delivered", b: undefined }),
          endsOf("a", { a: undefined, b: "dead", c: undefined })
        ])
        yield* recovery.keepFallbacks([endsOf("a", { b: "delivered", c: undefined })])
        assert.strictEqual((yield* recall("a"))[0]?.fallback, "lacking")
        assert.deepStrictEqual(yield* arrive("a", { to: "abc" }), keysOf("c"))
      }))

    it.effect("is missing no more if all backends are done with it", () =>
      Effect.gen(function*() {
        const { recall, recovery, want } = yield* setUpRecovery
        yield* want(missing("done"), missing("gaps"))
        yield* recovery.keepFallbacks([endsOf("done", { a: "delivered" }), endsOf("gaps", { a: undefined })])
        assert.deepStrictEqual(yield* recall("done", "gaps"), [
          { guid: "done", held: false, fallback: "complete", recovery: { state: "recovered", asks: 0 } },
          { guid: "gaps", held: false, fallback: "lacking", recovery: { state: "wanted", asks: 0 } }
        ])
      }))

    it.effect("leaves no record if the ledger holds it after all", () =>
      Effect.gen(function*() {
        const { recall, recovery, write } = yield* setUpRecovery
        yield* write(deliveryOf("a"))
        yield* recovery.keepFallbacks([endsOf("a", { a: "delivered" })])
        assert.deepInclude((yield* recall("a"))[0], { held: true, fallback: undefined })
      }))

    const ends: ReadonlyArray<FallbackEnd> = ["delivered", "rejected", "dead", undefined]
    it.effect("goes where the same delivery would go that the ledger holds, whoever asks", () =>
      Effect.gen(function*() {
        const { arrive, recovery, settle, store, want, write } = yield* setUpRecovery
        for (const isAsked of [false, true]) {
          for (const one of ends) {
            for (const other of ends) {
              const what = `${one} and ${other}, ${isAsked ? "asked for" : "not asked for"}`
              const [held, notHeld] = [`held: ${what}`, `not held: ${what}`]
              const delivery = deliveryOf(held, { to: "ab" })
              yield* write(delivery)
              for (const [name, end] of [["a", one], ["b", other]] as const) {
                yield* settle(delivery.id, name, end ?? { retryIn: 60_000 })
              }
              yield* recovery.keepFallbacks([endsOf(notHeld, { a: one, b: other })])
              if (isAsked) yield* want(missing(held), missing(notHeld))
              const owned = yield* arrive(held, { to: "abc" })
              assert.deepStrictEqual(yield* arrive(notHeld, { to: "abc" }), owned, what)
              const [ofHeld, ofNotHeld] = [yield* store.show(held), yield* store.show(notHeld)]
              assert.deepStrictEqual(ofNotHeld.map(statesOf), ofHeld.map(statesOf), what)
            }
          }
        }
      }))
  })

  describe("pruning with recovery", () => {
    it.effect("forgets what has ended, and fallbacks, after their time, and never what is missing", () =>
      Effect.gen(function*() {
        const { arrive, elapse, prune, recall, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"), missing("b"), missing("c"))
        yield* arrive("a")
        yield* recovery.giveUp([givenUp("b", "too old")])
        yield* recovery.keepFallbacks([endsOf("d", { a: undefined })])
        const known = Effect.map(
          recall("a", "b", "c", "d"),
          (found) => found.flatMap((one) => one.fallback === undefined && one.recovery === undefined ? [] : [one.guid])
        )
        yield* elapse(hours(72) - 1_000)
        yield* prune({ recovery: hours(72) })
        assert.deepStrictEqual(yield* known, ["a", "b", "c", "d"])
        yield* elapse(2_000)
        yield* prune({})
        assert.deepStrictEqual(yield* known, ["a", "b", "c", "d"], "recovery is off")
        yield* prune({ recovery: hours(72) })
        assert.deepStrictEqual(yield* known, ["c"])
      }))

    it.effect("keeps the records of deliveries for as long, and their bodies no longer than without", () =>
      Effect.gen(function*() {
        const { elapse, prune, recall, settle, store, write } = yield* setUpRecovery
        const retention = { delivered: hours(1), dead: hours(2), recovery: hours(72) }
        const [delivered, dead] = [deliveryOf("delivered"), deliveryOf("dead")]
        yield* write(delivered, dead)
        yield* settle(delivered.id, "a", "delivered")
        yield* settle(dead.id, "a", "dead")
        yield* elapse(hours(1) + 1_000)
        yield* prune(retention)
        assert.isUndefined(yield* store.load(delivered.id))
        assert.isDefined(yield* store.load(dead.id))
        yield* elapse(hours(1))
        yield* prune(retention)
        assert.isUndefined(yield* store.load(dead.id))
        yield* elapse(hours(70) - 2_000)
        yield* prune(retention)
        assert.deepStrictEqual((yield* recall("delivered", "dead")).map(({ held }) => held), [true, true])
        yield* elapse(2_000)
        yield* prune(retention)
        assert.deepStrictEqual(yield* recall("delivered", "dead"), [])
      }))

    it.effect("does a bounded part at a time, and all in the end", () =>
      Effect.gen(function*() {
        const { elapse, prune, recall, recovery } = yield* setUpRecovery
        const guids = Array.from({ length: 25 }, (_, at) => `guid-${at}`)
        yield* recovery.giveUp(guids.map((guid) => givenUp(guid, "too old")))
        yield* recovery.keepFallbacks(guids.map((guid) => endsOf(guid, { a: "delivered" })))
        yield* elapse(hours(2))
        assert.isAbove(yield* prune({ recovery: hours(1) }, 10), 2)
        assert.deepStrictEqual(yield* recall(...guids), [])
      }))
  })

  describe("a delivery that was never missing", () => {
    it.effect("is written in one transaction, whatever is missing beside it", () =>
      Effect.gen(function*() {
        const { database, recovery, want, write } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.keepFallbacks([endsOf("b", { a: undefined })])
        yield* write(newDelivery())
        assert.strictEqual(yield* database.transactionsOf(write(newDelivery(), newDelivery())), 1)
      }))

    it.effect("has no recovery to show", () =>
      Effect.gen(function*() {
        const { store, write } = yield* setUp
        const delivery = newDelivery()
        yield* write(delivery)
        assert.notProperty((yield* store.show(delivery.id))[0], "recovery")
        assert.notProperty((yield* store.list({}, { limit: 1 })).deliveries[0], "recovery")
      }))
  })
}
