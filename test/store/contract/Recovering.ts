/** The contract of recovery's records: who may ask GitHub, what is asked for, and what is known. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Databases, newDelivery } from "../../support/StoreDatabases.ts"
import { endsOf, givenUp, missing, setUpRecovery } from "./RecoverySubject.ts"
import { type ContractIt, hours } from "./Subject.ts"

export const tests = (it: ContractIt, { replicas }: { readonly replicas: boolean }) => {
  describe("the reconciler's lease", () => {
    it.effect("is renewed by whoever has it, and is over after its time", () =>
      Effect.gen(function*() {
        const { elapse, recovery } = yield* setUpRecovery
        assert.isUndefined((yield* recovery.progress).leader)
        for (let time = 0; time < 3; time += 1) {
          assert.isTrue(yield* recovery.lead(60_000))
          assert.strictEqual((yield* recovery.progress).leader, "one")
          yield* elapse(59_000)
        }
        yield* elapse(1_000)
        assert.isUndefined((yield* recovery.progress).leader)
      }))

    it.effect("is given back", () =>
      Effect.gen(function*() {
        const { recovery } = yield* setUpRecovery
        yield* recovery.lead(60_000)
        yield* recovery.resign
        assert.isUndefined((yield* recovery.progress).leader)
        assert.isTrue(yield* recovery.lead(60_000))
      }))

    it.effect("lets only its owner ask", () =>
      Effect.gen(function*() {
        const { elapse, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"))
        assert.isFalse(yield* recovery.asking("a", 1_000))
        yield* recovery.lead(60_000)
        yield* elapse(60_000)
        assert.isFalse(yield* recovery.asking("a", 1_000))
        yield* recovery.lead(60_000)
        assert.isTrue(yield* recovery.asking("a", 1_000))
        assert.deepInclude(yield* recovery.recoveryCounts(), { wanted: 0, asked: 1 })
      }))

    if (replicas) {
      it.effect("has one owner, and passes on when its time is over or it is given back", () =>
        Effect.gen(function*() {
          const { database, elapse, recovery: one, want } = yield* setUpRecovery
          const { recovery: two } = yield* database.openRecovering("two")
          yield* want(missing("a"))
          assert.isTrue(yield* one.lead(60_000))
          assert.isFalse(yield* two.lead(60_000))
          yield* two.resign
          assert.strictEqual((yield* two.progress).leader, "one")
          assert.isFalse(yield* two.asking("a", 1_000))
          yield* elapse(60_000)
          assert.isTrue(yield* two.lead(60_000))
          assert.isFalse(yield* one.lead(60_000))
          assert.isFalse(yield* one.asking("a", 1_000))
          yield* two.resign
          assert.isTrue(yield* one.lead(60_000))
        }))

      it.effect("has one owner among many that take it at once", () =>
        Effect.gen(function*() {
          const { database } = yield* setUpRecovery
          const names = ["two", "three", "four", "five"]
          const others = yield* Effect.forEach(names, (name) => database.openRecovering(name))
          const took = yield* Effect.forEach(others, ({ recovery }) => recovery.lead(60_000), {
            concurrency: "unbounded"
          })
          assert.strictEqual(took.filter((isTaken) => isTaken).length, 1)
        }))
    } else {
      it.effect("passes on at once to the next process, because only one can have the store", () =>
        Effect.gen(function*() {
          const database = yield* (yield* Databases).create
          const lead = (owner: string) =>
            Effect.scoped(Effect.flatMap(database.openRecovering(owner), ({ recovery }) => recovery.lead(60_000)))
          assert.isTrue(yield* lead("killed"))
          assert.isTrue(yield* lead("its successor"))
        }))
    }

    it.effect("does not last for longer because the clock was set back", () =>
      Effect.gen(function*() {
        const database = yield* (yield* Databases).create
        const lead = (owner: string) =>
          Effect.scoped(Effect.flatMap(database.openRecovering(owner), ({ recovery }) => recovery.lead(60_000)))
        yield* database.elapse(hours(2))
        assert.isTrue(yield* lead("one"))
        yield* database.setBack(hours(1))
        assert.isTrue(yield* lead("two"))
      }))
  })

  describe("the progress of recovery", () => {
    it.effect("begins with the first look at it", () =>
      Effect.gen(function*() {
        const { elapse, now, recovery } = yield* setUpRecovery
        const startedAt = yield* now
        const first = {
          startedAt,
          now: startedAt,
          hookId: undefined,
          failures: undefined,
          full: undefined,
          leader: undefined
        }
        assert.deepStrictEqual(yield* recovery.progress, first)
        yield* elapse(5_000)
        assert.deepStrictEqual(yield* recovery.progress, { ...first, now: startedAt + 5_000 })
      }))

    it.effect("begins before that if somebody leads or advances", () =>
      Effect.gen(function*() {
        const { elapse, now, recovery } = yield* setUpRecovery
        const startedAt = yield* now
        yield* recovery.lead(1_000)
        yield* recovery.advance({ hookId: "7" })
        yield* elapse(5_000)
        assert.deepInclude(yield* recovery.progress, { startedAt, hookId: "7" })
      }))

    it.effect("keeps what each kind of pass has seen, and when it ended, and does not go back", () =>
      Effect.gen(function*() {
        const { elapse, now, recovery } = yield* setUpRecovery
        const begun = yield* now
        yield* recovery.advance({ hookId: "7", failures: 1_000 })
        yield* elapse(5_000)
        yield* recovery.advance({ full: { scannedTo: 2_000, beganAt: begun } })
        assert.deepInclude(yield* recovery.progress, {
          hookId: "7",
          failures: { scannedTo: 1_000, completedAt: begun },
          full: { scannedTo: 2_000, completedAt: begun + 5_000 }
        })
        yield* elapse(5_000)
        yield* recovery.advance({ hookId: "8", failures: 900, full: { scannedTo: 2_500, beganAt: begun } })
        assert.deepInclude(yield* recovery.progress, {
          hookId: "8",
          failures: { scannedTo: 1_000, completedAt: begun + 10_000 },
          full: { scannedTo: 2_500, completedAt: begun + 10_000 }
        })
      }))
  })

  describe("a missing delivery", () => {
    it.effect("is wanted once, with all of its attempt, whatever its digits", () =>
      Effect.gen(function*() {
        const { recovery, want } = yield* setUpRecovery
        const attemptId = "9223372036854775807"
        const one = missing("a", { event: "pull_request", attemptId, failedAt: 5, priority: 3 })
        assert.strictEqual(yield* want(one, missing("b")), 2)
        assert.strictEqual(yield* want(one, missing("b"), missing("c")), 1)
        const due = yield* recovery.wanted(10)
        assert.deepStrictEqual(due.find(({ guid }) => guid === "a"), { ...one, asks: 0, run: undefined })
        assert.strictEqual(yield* recovery.want([], { anew: false }), 0)
      }))

    it.effect("goes by priority, and then the newest first", () =>
      Effect.gen(function*() {
        const { due, want } = yield* setUpRecovery
        yield* want(
          missing("late", { priority: 1, failedAt: 30 }),
          missing("old", { priority: 0, failedAt: 10 }),
          missing("new", { priority: 0, failedAt: 20 })
        )
        assert.deepStrictEqual(yield* due(), ["new", "old", "late"])
        assert.deepStrictEqual(yield* due(1), ["new"])
      }))

    it.effect("keeps the newest attempt and the first failure", () =>
      Effect.gen(function*() {
        const { recovery, want } = yield* setUpRecovery
        yield* want(missing("a", { attemptId: "999", failedAt: 10 }))
        yield* want(missing("a", { attemptId: "1000", failedAt: 20 }))
        yield* want(missing("a", { attemptId: "998", failedAt: 5 }))
        assert.deepInclude((yield* recovery.wanted(1))[0], { attemptId: "1000", failedAt: 5 })
      }))

    it.effect("is asked for again after a while, and each request is counted", () =>
      Effect.gen(function*() {
        const { due, elapse, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.lead(1e9)
        assert.isTrue(yield* recovery.asking("a", 1_000))
        assert.deepStrictEqual(yield* due(), [])
        yield* elapse(1_000)
        assert.deepInclude((yield* recovery.wanted(1))[0], { guid: "a", asks: 1 })
        yield* recovery.asking("a", 1_000)
        yield* want(missing("a"))
        assert.deepStrictEqual(yield* due(), [], "what was asked for is not due because it is missing still")
        yield* elapse(1_000)
        assert.deepInclude((yield* recovery.wanted(1))[0], { guid: "a", asks: 2 })
        assert.isFalse(yield* recovery.asking("unknown", 1_000))
      }))

    it.effect("is asked for without a count, if the request says so", () =>
      Effect.gen(function*() {
        const { elapse, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.lead(1e9)
        yield* recovery.asking("a", 1_000)
        assert.isTrue(yield* recovery.asking("a", 2_000, 1))
        yield* elapse(1_000)
        assert.deepStrictEqual(yield* recovery.wanted(1), [])
        yield* elapse(1_000)
        assert.deepInclude((yield* recovery.wanted(1))[0], { guid: "a", asks: 1 })
        assert.isTrue(yield* recovery.asking("a", 0, 0))
        assert.deepInclude((yield* recovery.wanted(1))[0], { guid: "a", asks: 0 })
      }))

    it.effect("is given up once, and not asked for then", () =>
      Effect.gen(function*() {
        const { due, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"), missing("b"))
        yield* recovery.lead(60_000)
        yield* recovery.asking("b", 0)
        const given = ["a", "b", "never wanted"].map((guid) => givenUp(guid, "too large"))
        assert.strictEqual(yield* recovery.giveUp(given), 3)
        assert.strictEqual(yield* recovery.giveUp(given), 0)
        assert.deepStrictEqual(yield* due(), [])
        assert.isFalse(yield* recovery.asking("a", 1_000))
        assert.deepInclude(yield* recovery.recoveryCounts(), { wanted: 0, asked: 0, givenUp: 3 })
      }))

    it.effect("that was given up is wanted again only by an operator, and its requests count from 0", () =>
      Effect.gen(function*() {
        const { due, recovery, want } = yield* setUpRecovery
        yield* want(missing("a"))
        yield* recovery.lead(60_000)
        yield* recovery.asking("a", 0)
        yield* recovery.giveUp([givenUp("a", "asked 5 times")])
        assert.strictEqual(yield* want(missing("a")), 0)
        assert.deepStrictEqual(yield* due(), [])
        assert.strictEqual(yield* recovery.want([missing("a", { run: "r" })], { anew: true }), 1)
        assert.deepInclude((yield* recovery.wanted(1))[0], { guid: "a", asks: 0, run: "r" })
        assert.deepInclude(yield* recovery.recoveryCounts("r"), { wanted: 1, givenUp: 0 })
      }))

    it.effect("that waits for its next request is due when an operator asks, if the last is not too recent", () =>
      Effect.gen(function*() {
        const { due, elapse, recovery, want } = yield* setUpRecovery
        const anew = recovery.want([missing("a", { run: "r" })], { anew: true })
        yield* want(missing("a"))
        yield* recovery.lead(1e9)
        yield* recovery.asking("a", hours(12))
        yield* elapse(90_000)
        assert.strictEqual(yield* anew, 0)
        assert.deepStrictEqual(yield* due(), [])
        yield* elapse(30_000)
        assert.deepInclude((yield* recovery.wanted(1))[0], { guid: "a", asks: 0, run: "r" })
        yield* recovery.asking("a", hours(12))
        yield* elapse(hours(1))
        yield* anew
        assert.deepStrictEqual(yield* due(), ["a"])
      }))

    it.effect("shows when something last arrived, as does any other delivery", () =>
      Effect.gen(function*() {
        const { arrive, elapse, now, recovery, want } = yield* setUpRecovery
        assert.isUndefined(yield* recovery.lastArrivalAt)
        yield* want(missing("a"))
        assert.isUndefined(yield* recovery.lastArrivalAt)
        yield* arrive("other")
        const first = yield* now
        assert.strictEqual(yield* recovery.lastArrivalAt, first)
        yield* elapse(1_000)
        assert.strictEqual(yield* recovery.lastArrivalAt, first)
        yield* arrive("a")
        assert.isAtLeast((yield* recovery.lastArrivalAt)!, first + 1_000)
      }))

    it.effect("is counted, by run too, with the oldest", () =>
      Effect.gen(function*() {
        const { arrive, now, recovery, want } = yield* setUpRecovery
        const none = {
          wanted: 0,
          asked: 0,
          recovered: 0,
          givenUp: 0,
          oldestFailedAt: undefined,
          lastRecoveredAt: undefined
        }
        assert.deepStrictEqual(yield* recovery.recoveryCounts(), none)
        yield* want(missing("a", { failedAt: 40 }), missing("b", { failedAt: 30 }))
        yield* recovery.want([missing("c", { failedAt: 20, run: "r" })], { anew: true })
        yield* recovery.giveUp([givenUp("d", "too old", { failedAt: 10, run: "r" })])
        yield* recovery.lead(60_000)
        yield* recovery.asking("a", 1_000)
        assert.deepStrictEqual(yield* recovery.recoveryCounts(), {
          ...none,
          wanted: 2,
          asked: 1,
          givenUp: 1,
          oldestFailedAt: 20
        })
        yield* arrive("c")
        const run = { ...none, recovered: 1, givenUp: 1, lastRecoveredAt: yield* now }
        assert.deepStrictEqual(yield* recovery.recoveryCounts("r"), run)
        assert.deepStrictEqual(yield* recovery.recoveryCounts("another"), none)
      }))
  })

  describe("the deliveries without the store that a backend lacks", () => {
    it.effect("are known by when the first of them was received, until a full pass has had them", () =>
      Effect.gen(function*() {
        const { elapse, now, recovery } = yield* setUpRecovery
        assert.isUndefined(yield* recovery.lackingSince)
        const kept = yield* now
        yield* recovery.keepFallbacks([
          endsOf("done", { a: "delivered" }, hours(9)),
          endsOf("gaps", { a: "delivered", b: undefined }, hours(3)),
          endsOf("more gaps", { a: undefined }, hours(2))
        ])
        assert.strictEqual(yield* recovery.lackingSince, kept - hours(3))
        yield* elapse(hours(1))
        yield* recovery.advance({ failures: 1_000 })
        assert.strictEqual(yield* recovery.lackingSince, kept - hours(3))
        yield* recovery.advance({ full: { scannedTo: 1_000, beganAt: kept + 30_000 } })
        assert.strictEqual(yield* recovery.lackingSince, kept - hours(3), "it may not have been there to be seen")
        yield* recovery.advance({ full: { scannedTo: 1_000, beganAt: yield* now } })
        assert.isUndefined(yield* recovery.lackingSince)
        yield* recovery.keepFallbacks([endsOf("more gaps", { b: undefined }, hours(1))])
        assert.strictEqual(yield* recovery.lackingSince, kept - hours(2))
        yield* recovery.keepFallbacks([endsOf("more gaps", { a: "delivered", b: "rejected" })])
        assert.isUndefined(yield* recovery.lackingSince)
      }))

    it.effect("do not count if they came by another hook", () =>
      Effect.gen(function*() {
        const { now, recovery } = yield* setUpRecovery
        yield* recovery.keepFallbacks([{ ...endsOf("theirs", { a: undefined }, hours(1)), hookId: "8" }])
        assert.strictEqual(yield* recovery.lackingSince, (yield* now) - hours(1))
        yield* recovery.advance({ hookId: "7" })
        assert.isUndefined(yield* recovery.lackingSince)
      }))
  })

  describe("what is recalled of GUIDs", () => {
    it.effect("is all that is known, and nothing of others", () =>
      Effect.gen(function*() {
        const { recall, recovery, want, write } = yield* setUpRecovery
        yield* write(newDelivery({ guid: "held" }))
        yield* want(missing("wanted"))
        yield* recovery.keepFallbacks([
          endsOf("done", { a: "delivered" }),
          endsOf("gaps", { a: "delivered", b: undefined })
        ])
        const unknown = { held: false, fallback: undefined, recovery: undefined }
        assert.deepStrictEqual(yield* recall("held", "wanted", "done", "gaps", "other", "held"), [
          { ...unknown, guid: "done", fallback: "complete" },
          { ...unknown, guid: "gaps", fallback: "lacking" },
          { ...unknown, guid: "held", held: true },
          { ...unknown, guid: "wanted", recovery: { state: "wanted", asks: 0 } }
        ])
        assert.deepStrictEqual(yield* recall(), [])
      }))

    it.effect("leaves out other hooks, if one is named", () =>
      Effect.gen(function*() {
        const { recovery, write } = yield* setUpRecovery
        yield* write(newDelivery({ guid: "ours", hookId: "7" }), newDelivery({ guid: "theirs", hookId: "8" }))
        yield* recovery.keepFallbacks([
          { ...endsOf("ours too", { a: "delivered" }), hookId: "7" },
          { ...endsOf("theirs too", { a: "delivered" }), hookId: "8" }
        ])
        const guids = ["ours", "theirs", "ours too", "theirs too"]
        const recalled = yield* recovery.recall(guids, "7")
        assert.sameMembers(recalled.map(({ guid }) => guid), ["ours", "ours too"])
        assert.strictEqual((yield* recovery.recall(guids, undefined)).length, 4)
      }))

    it.effect("of a GUID with several fallbacks is that one lacks something", () =>
      Effect.gen(function*() {
        const { recall, recovery } = yield* setUpRecovery
        yield* recovery.keepFallbacks([
          endsOf("a", { a: "delivered" }),
          { ...endsOf("a", { a: undefined }), bodyHash: "another" }
        ])
        assert.strictEqual((yield* recall("a"))[0]?.fallback, "lacking")
      }))
  })
}
