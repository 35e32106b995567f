import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { GitHubUnavailable } from "../../../src/recovery/GitHubLog.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"
import { begin, hour, minute, second, setUp } from "../Script.ts"

const limited = new GitHubUnavailable({ kind: "limited", reason: "GitHub takes no requests for 60 s" })
const suspended = new GitHubUnavailable({ kind: "suspended", reason: "GitHub has suspended the App" })

describe("a delivery that GitHub could not deliver", () => {
  it.effect("is asked for, and recovered when it arrives", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const { lines } = yield* start()
      yield* TestClock.adjust("10 seconds")
      github.add("a", begin + 11 * second, 502)
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
      assert.deepStrictEqual(states(), { a: "recovered" })
      assert.deepInclude(lines("GitHub is asked for a missing delivery")[0]!.fields, {
        delivery: "a",
        event: "push",
        failed: "2026-11-20T12:00:11.000Z",
        request: 1
      })
      assert.deepInclude(lines("deliveries are missing")[0]!.fields, { pass: "failures", missing: 1, "given-up": 0 })
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(github.asked, ["a"])
    }))

  it.effect("because nobody answered is found by a full pass", () =>
    Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      github.add("a", begin + minute, 0)
      yield* TestClock.adjust("14 minutes")
      assert.deepStrictEqual(github.asked, [])
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
    }))

  it.effect("although the ledger has it, because GitHub counts it as timed out, is not asked for", () =>
    Effect.gen(function*() {
      const { arrive, github, start, states } = yield* setUp()
      yield* start()
      yield* arrive("a")
      github.add("a", begin + second, 0)
      yield* arrive("b")
      github.add("b", begin + second, 502)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, [])
      assert.deepStrictEqual(states(), {})
    }))

  it.effect("whose row comes late is found", () =>
    Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      github.add("a", begin + 10 * minute, 502)
      yield* TestClock.adjust("20 minutes")
      github.add("late", begin + 8 * minute, 502)
      github.add("later", begin + 8 * minute, 0)
      yield* TestClock.adjust("17 minutes")
      assert.sameMembers(github.asked, ["a", "late", "later"])
    }))

  it.effect("that may be under way here is left alone until it can't be", () =>
    Effect.gen(function*() {
      const { arrive, github, start } = yield* setUp()
      yield* start()
      yield* TestClock.adjust("45 seconds")
      github.add("a", begin + 45 * second, 502)
      yield* TestClock.adjust("29 seconds")
      assert.deepStrictEqual(github.asked, [])
      yield* arrive("a")
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, [])
    }))

  it.effect("a moment before the start, without an answer, does not wait for the next full pass but one", () =>
    Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const first = yield* start()
      yield* TestClock.adjust("1 minute")
      yield* first.stop
      github.pages.length = 0
      github.add("a", begin + 59 * second, 0)
      yield* start()
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
      assert.lengthOf(github.pages.filter((which) => which === "all"), 2)
    }))

  it.effect("that GitHub holds back is left to GitHub for a while", () =>
    Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      github.add("a", begin + 14 * minute, 0, { throttledAt: begin + 14 * minute })
      yield* TestClock.adjust("29 minutes")
      assert.deepStrictEqual(github.asked, [])
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
    }))

  it.effect("that is too large is given up at once, and said so", () =>
    Effect.gen(function*() {
      const { github, start, states } = yield* setUp()
      const { lines } = yield* start()
      github.add("a", begin + second, 413)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, [])
      assert.deepStrictEqual(states(), { a: "given up" })
      assert.lengthOf(lines("missing delivery given up"), 1)
      assert.deepInclude(lines("missing delivery given up")[0]!.fields, {
        delivery: "a",
        reason: "it was answered 413: larger than --max-request-size"
      })
    }))

  it.effect("before the window is given up, and said so; one in it is asked for", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const first = yield* start()
      yield* TestClock.adjust("1 minute")
      yield* first.stop
      github.add("old", begin + hour, 502)
      github.add("young", begin + 3 * hour, 502)
      yield* TestClock.setTime(begin + 74 * hour)
      const { lines } = yield* start()
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(states(), { old: "given up", young: "recovered" })
      assert.deepInclude(lines("missing delivery given up")[0]!.fields, {
        delivery: "old",
        reason: "it is older than --recovery-max-age"
      })
    }))

  it.effect("before the first start with recovery is left alone", () =>
    Effect.gen(function*() {
      const { github, start, states } = yield* setUp()
      github.add("a", begin - second, 502)
      yield* start()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(states(), {})
      assert.deepStrictEqual(github.asked, [])
    }))

  it.effect("and that was answered without the store is left alone", () =>
    Effect.gen(function*() {
      const { github, start, states } = yield* setUp()
      yield* start()
      github.add("a", begin + second, 0)
      github.add("a", begin + 10 * second, 200, { redelivery: true })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(states(), {})
    }))

  it.effect("and went without the store is asked for if a backend lacks it", () =>
    Effect.gen(function*() {
      const { github, recovery, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      for (const [guid, end] of [["all have it", "delivered"], ["one lacks it", undefined]] as const) {
        github.add(guid, begin + second, 502)
        const backends = [{ key: "a", end: "delivered" }, { key: "b", end }] as const
        yield* recovery.keepFallbacks([{ guid, hookId: "1", bodyHash: "0", age: 0, backends }])
      }
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, ["one lacks it"])
    }))

  it.effect("is asked for although GitHub was answered, if it went without the store and a backend lacks it", () =>
    Effect.gen(function*() {
      const { arrive, github, recovery, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      yield* arrive("held")
      for (const [guid, end] of [["all have it", "delivered"], ["one lacks it", undefined]] as const) {
        github.add(guid, begin + second, 202)
        const backends = [{ key: "a", end: "delivered" }, { key: "b", end }] as const
        yield* recovery.keepFallbacks([{ guid, hookId: "1", bodyHash: "0", age: 0, backends }])
      }
      for (const guid of ["held", "unknown"]) github.add(guid, begin + second, 202)
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(github.asked, ["one lacks it"])
      assert.deepStrictEqual(states(), { "one lacks it": "recovered" })
    }))

  it.effect("to a backend, by a process that had no store for long, is asked for as soon as that is known", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { github, recovery, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      for (const guid of ["lacking", "all have it"]) github.add(guid, begin + minute, 202)
      github.pageSize = 10
      for (let n = 2; n < 180; n += 1) github.add(`${n}`, begin + n * minute, 202)
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(states(), {})
      for (const [guid, end] of [["lacking", undefined], ["all have it", "delivered"]] as const) {
        const backends = [{ key: "a", end: "delivered" }, { key: "b", end }] as const
        yield* recovery.keepFallbacks([{ guid, hookId: "1", bodyHash: "0", age: 179 * minute, backends }])
      }
      yield* TestClock.adjust("17 minutes")
      assert.deepStrictEqual(github.asked, ["lacking"])
      assert.deepStrictEqual(states(), { lacking: "recovered" })
      assert.strictEqual(yield* attempts("delivered"), 180, "each attempt counts once")
      github.pages.length = 0
      yield* TestClock.adjust("1 hour")
      assert.isBelow(
        github.pages.filter((which) => which === "all").length,
        4 * 6,
        "later passes begin where they would"
      )
    })))

  it.effect("is not taken for missing before it is known what went without the store", () =>
    Effect.gen(function*() {
      const { github, records, recovery, start, states } = yield* setUp()
      yield* start()
      yield* records.close
      github.add("a", begin + second, 502)
      yield* TestClock.adjust("3 minutes")
      const backends = [{ key: "a", end: "delivered" }] as const
      yield* recovery.keepFallbacks([{ guid: "a", hookId: "1", bodyHash: "0", age: 0, backends }])
      yield* records.open
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, [])
      assert.deepStrictEqual(states(), {})
    }))

  it.effect("and that GitHub sends by itself meanwhile is sent once", () =>
    Effect.gen(function*() {
      const { arrive, github, start, states } = yield* setUp()
      yield* start()
      github.add("a", begin + second, 502)
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(states(), { a: "asked" })
      assert.deepStrictEqual(yield* arrive("a"), ["http://a.example.com"])
      assert.deepStrictEqual(yield* arrive("a"), [])
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(github.asked, ["a"])
    }))

  it.effect("and that a person sends again goes to all", () =>
    Effect.gen(function*() {
      const { arrive, github, start } = yield* setUp()
      yield* start()
      yield* arrive("a")
      github.add("a", begin + second, 0)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, [])
    }))

  it.effect("is asked for before the others if it starts pipelines, the newest first", () =>
    Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      for (const [at, event] of ["status", "push", "check_run", "push", "pull_request"].entries()) {
        github.add(`${event} ${at}`, begin + (at + 1) * second, 503, { event })
      }
      yield* start()
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(github.asked, ["push 3", "push 1", "pull_request 4", "check_run 2", "status 0"])
    }))
})

describe("the hook id", () => {
  it.effect("of another App's delivery with the same GUID does not make ours held", () =>
    Effect.gen(function*() {
      const { arrive, github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* arrive("a", { hookId: "another" })
      yield* start()
      github.add("a", begin + second, 502)
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
      assert.lengthOf(github.details, 1)
    }))

  it.effect("that a detail does not tell yet is learned later; until then the GUID decides", () =>
    Effect.gen(function*() {
      const { arrive, github, recovery, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* arrive("a", { hookId: "another" })
      github.hookId = undefined
      yield* start()
      github.add("a", begin + second, 502)
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(github.asked, [])
      github.hookId = "1"
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
      assert.strictEqual((yield* recovery.progress).hookId, "1")
      yield* TestClock.adjust("1 hour")
      assert.isBelow(github.details.length, 6)
    }))
})

describe("passes", () => {
  it.effect("read no more pages than they have to", () =>
    Effect.gen(function*() {
      const { arrive, github, start } = yield* setUp()
      yield* start()
      yield* TestClock.adjust("1 hour")
      for (let n = 0; n < 1_000; n += 1) github.add(`${n}`, begin + hour, 200)
      yield* arrive("another")
      yield* TestClock.adjust("1 hour")
      github.pages.length = 0
      github.add("new", begin + 2 * hour, 200)
      yield* TestClock.adjust("20 minutes")
      assert.lengthOf(github.pages.filter((which) => which === "failures"), 19)
      github.pages.length = 0
      yield* TestClock.adjust("15 minutes")
      // One has the new row and old ones. The next is the first that has only old ones.
      assert.lengthOf(github.pages.filter((which) => which === "all"), 2)
    }))

  it.effect("go on where the last complete one ended, in another process too", () =>
    Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const first = yield* start()
      for (let n = 0; n < 250; n += 1) github.add(`${n}`, begin + n * second, 200)
      yield* TestClock.adjust("20 minutes")
      yield* first.stop
      for (let n = 0; n < 3; n += 1) github.add(`missed ${n}`, begin + hour + n * second, 0)
      yield* TestClock.setTime(begin + 2 * hour)
      yield* start("two")
      yield* TestClock.adjust("1 minute")
      assert.sameMembers(github.asked, ["missed 0", "missed 1", "missed 2"])
    }))

  it.effect("that GitHub does not answer are made again, and it is said once why", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      github.failure = suspended
      github.add("a", begin + second, 502)
      const { lines, operators } = yield* start()
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(lines("missing deliveries can't be looked for").map(({ fields }) => fields), [
        { pass: "full", kind: "suspended", error: suspended.reason }
      ])
      const since = "sprayproxy_recovery_failing_since_timestamp_seconds"
      assert.strictEqual((yield* scrape).value(since), begin / second)
      assert.deepStrictEqual((yield* operators.status()).failing, { since: begin, reason: suspended.reason })
      github.failure = undefined
      yield* TestClock.adjust("2 minutes")
      assert.lengthOf(lines("missing deliveries can be looked for again"), 1)
      assert.strictEqual((yield* scrape).value(since), 0)
      assert.deepStrictEqual(github.asked, ["a"])
    })))

  it.effect("are made again if the store goes away in the middle", () =>
    Effect.gen(function*() {
      const { database, github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      github.pageSize = 1
      for (const guid of ["a", "b", "c"]) github.add(guid, begin + second, 502)
      github.beforePage = Effect.sync(() => {
        database.fail = github.pages.length >= 1
      })
      const { lines } = yield* start()
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(states(), {})
      assert.include(lines("missing deliveries can't be looked for")[0]!.fields, {
        kind: "store",
        error: "told to fail"
      })
      github.beforePage = Effect.void
      database.fail = false
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(states(), { a: "recovered", b: "recovered", c: "recovered" })
    }))

  it.effect("that a shutdown interrupts are made again by the next process, which leads at once", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      github.pageSize = 1
      for (const guid of ["a", "b", "c"]) github.add(guid, begin + second, 502)
      github.beforePage = Effect.sleep("20 seconds")
      const first = yield* start()
      yield* TestClock.adjust("30 seconds")
      yield* first.stop
      assert.deepStrictEqual(states(), {})
      github.beforePage = Effect.void
      yield* start("two")
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(states(), { a: "recovered", b: "recovered", c: "recovered" })
      assert.lengthOf(github.asked, 3)
    }))
})

describe("one reconciler among replicas", () => {
  it.effect("looks and asks; the others do not", () =>
    Effect.gen(function*() {
      const { github, recovery, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start("one")
      yield* start("two")
      github.add("a", begin + second, 502)
      yield* TestClock.adjust("14 minutes")
      assert.deepStrictEqual(github.asked, ["a"])
      assert.isAtMost(github.pages.length, 15)
      assert.strictEqual((yield* recovery.progress).leader, "one")
    }))

  it.effect("has a successor when it is killed, who repeats nothing that was done", () =>
    Effect.gen(function*() {
      const { github, recovery, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const first = yield* start("one")
      yield* start("two")
      for (let n = 0; n < 100; n += 1) github.add(`${n}`, begin + second, 503)
      yield* TestClock.adjust("2 minutes")
      first.kill()
      const done = github.asked.length
      assert.isAbove(done, 30)
      assert.isBelow(done, 70)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* recovery.progress).leader, "two")
      yield* TestClock.adjust("5 minutes")
      assert.lengthOf(github.asked, 100)
      assert.strictEqual(new Set(github.asked).size, 100)
      assert.strictEqual(new Set(Object.values(states())).size, 1)
    }))

  it.effect("stops asking when it can't renew its lease", () =>
    Effect.gen(function*() {
      const { database, github, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      for (let n = 0; n < 500; n += 1) github.add(`${n}`, begin + second, 503)
      const { lines } = yield* start()
      yield* TestClock.adjust("2 minutes")
      database.fail = true
      const asked = github.asked.length
      yield* TestClock.adjust("46 seconds")
      assert.isAtMost(github.asked.length, asked + 1)
      assert.lengthOf(lines("this process looks for missing deliveries no longer"), 1)
    }))

  it.effect("gives its lease back when it drains", () =>
    Effect.gen(function*() {
      const { recovery, start } = yield* setUp()
      const first = yield* start("one")
      yield* start("two")
      yield* TestClock.adjust("1 minute")
      first.readiness.beginDraining()
      yield* TestClock.adjust("17 seconds")
      assert.strictEqual((yield* recovery.progress).leader, "two")
    }))
})

const attempts = (result: string) =>
  Effect.map(scrape, (found) => found.value(`sprayproxy_github_attempts_total{result="${result}"}`))

describe("the front door", () => {
  it.effect("is counted by GitHub's log, each attempt once, late ones too", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { arrive, github, start } = yield* setUp()
      yield* start()
      for (const [at, statusCode] of [200, 202, 0, 401, 413, 502, 503, 301].entries()) {
        yield* arrive(`${at}`)
        github.add(`${at}`, begin + at * minute, statusCode)
      }
      yield* TestClock.adjust("16 minutes")
      github.add("late", begin + 2 * minute, 200)
      yield* TestClock.adjust("2 hours")
      // The first was made at the very moment of the first start, which is not after it.
      assert.strictEqual(yield* attempts("delivered"), 2)
      assert.strictEqual(yield* attempts("unanswered"), 1)
      assert.strictEqual(yield* attempts("refused"), 2)
      assert.strictEqual(yield* attempts("failed"), 3)
    })))
})

describe("the metrics of the reconciler", () => {
  it.effect("say what is missing, asked for, recovered and given up", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { arrive, github, start } = yield* setUp()
      yield* start()
      yield* TestClock.adjust("1 minute")
      github.add("a", begin + minute, 502)
      github.add("b", begin + 61 * second, 502)
      github.add("c", begin + 61 * second, 413)
      yield* TestClock.adjust("2 minutes")
      const before = yield* scrape
      assert.strictEqual(before.value("sprayproxy_recovery_missing_deliveries"), 2)
      assert.isAtLeast(before.value("sprayproxy_recovery_oldest_missing_age_seconds"), 60)
      assert.strictEqual(before.value(`sprayproxy_recovery_requests_total{result="accepted"}`), 2)
      assert.strictEqual(before.value("sprayproxy_recovery_given_up_total"), 1)
      assert.strictEqual(before.value("sprayproxy_recovery_reconciler"), 1)
      assert.isAtLeast(before.value(`sprayproxy_recovery_last_pass_timestamp_seconds{pass="failures"}`), begin / second)
      yield* arrive("a")
      yield* arrive("b")
      yield* TestClock.adjust("1 minute")
      const after = yield* scrape
      assert.strictEqual(after.value("sprayproxy_recovery_missing_deliveries"), 0)
      assert.strictEqual(after.value("sprayproxy_recovery_oldest_missing_age_seconds"), 0)
      assert.strictEqual(after.value("sprayproxy_recovery_recovered_total"), 2)
    })))
})

describe("requests for redelivery", () => {
  it.effect("that GitHub does not answer do not count, and stop for a while", () =>
    Effect.gen(function*() {
      const { github, recovery, start, states, takeRedeliveries } = yield* setUp()
      for (let n = 0; n < 20; n += 1) github.add(`${n}`, begin + second, 503)
      github.redelivered = () => Effect.fail(limited)
      yield* start()
      yield* TestClock.adjust("10 minutes")
      assert.isAtMost(github.asked.length, 10)
      const due = yield* recovery.wanted(100)
      assert.isTrue(due.every(({ asks }) => asks === 0))
      yield* takeRedeliveries
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(new Set(Object.values(states())), new Set(["recovered"]))
    }))

  it.effect("that GitHub refuses are made once more, because a row may be too new, and then no more", () =>
    Effect.gen(function*() {
      const { github, start, states } = yield* setUp()
      github.add("a", begin + second, 503)
      github.redelivered = () => Effect.succeed({ refused: "404 Not Found" })
      const { lines } = yield* start()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(github.asked, ["a", "a"])
      assert.deepStrictEqual(states(), { a: "given up" })
      assert.deepInclude(lines("missing delivery given up")[0]!.fields, { reason: "GitHub refuses it: 404 Not Found" })
    }))

  it.effect("end after five, if others arrive and this one does not", () =>
    Effect.gen(function*() {
      const { arrive, github, start, states } = yield* setUp()
      const { lines } = yield* start()
      github.add("a", begin + second, 503)
      for (let n = 0; n < 16 * 60; n += 1) {
        yield* arrive(`another ${n}`)
        yield* TestClock.adjust("1 minute")
      }
      assert.deepStrictEqual(github.asked, ["a", "a", "a", "a", "a"])
      assert.deepStrictEqual(states(), { a: "given up" })
      assert.deepInclude(lines("missing delivery given up")[0]!.fields, {
        reason: "it was asked for as often as may be, and has not arrived"
      })
    }))

  it.effect("are held back while a wrong secret refuses everything, and nothing is given up because of it", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      for (let n = 0; n < 300; n += 1) github.add(`${n}`, begin + second, 400)
      github.redelivered = (guid) =>
        Effect.clockWith((clock) =>
          Effect.sync(() => {
            github.add(guid, clock.currentTimeMillisUnsafe(), 400, { redelivery: true })
            return "accepted" as const
          })
        )
      const { lines } = yield* start()
      yield* TestClock.adjust("6 hours")
      assert.isAtMost(github.asked.length, 5 + 4 + 4 * 6)
      assert.isAtLeast(github.asked.length, 4 * 5)
      assert.deepStrictEqual(new Set(Object.values(states())), new Set(["wanted", "asked"]))
      assert.lengthOf(lines("nothing arrives although GitHub was asked for it: requests are held back"), 1)
      assert.strictEqual((yield* scrape).value("sprayproxy_recovery_held_back"), 1)
      const before = github.asked.length
      yield* takeRedeliveries
      yield* TestClock.adjust("25 minutes")
      assert.lengthOf(github.asked, before + 300)
      assert.deepStrictEqual(new Set(Object.values(states())), new Set(["recovered"]))
      assert.strictEqual((yield* scrape).value("sprayproxy_recovery_held_back"), 0)
    })))
})
