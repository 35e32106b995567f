/** GitHub on a bad day: one row, one page or one delivery that is odd must not cost the others. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { GitHubUnavailable } from "../../../src/recovery/GitHubLog.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"
import { begin, hour, minute, second, setUp } from "../Script.ts"

const failed = new GitHubUnavailable({ kind: "failed", reason: "GitHub's API fails (500: Server Error)" })

const counted = (result: string) =>
  Effect.map(scrape, (found) => found.value(`sprayproxy_github_attempts_total{result="${result}"}`))

describe("a missing delivery", () => {
  it.effect("is found although a row of GitHub's log is dated in the future", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      github.add("odd", begin + 30 * hour, 502)
      yield* TestClock.adjust("20 minutes")
      github.add("a", begin + 20 * minute, 502)
      github.add("b", begin + 20 * minute, 0)
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(states(), { a: "recovered", b: "recovered" })
      assert.strictEqual(yield* counted("failed"), 2)
      assert.strictEqual(yield* counted("unanswered"), 1)
      assert.strictEqual(yield* counted("delivered"), 2)
    })))

  it.effect("is found although the store's clock is an hour behind GitHub's", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      github.add("a", begin + hour + minute, 0)
      for (let at = 2; at < 120; at += 1) github.add("answered", begin + hour + at * minute, 200)
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual(states(), { a: "recovered" })
    }))

  it.effect("is found although a page before its own is empty", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      yield* start()
      github.pageSize = 1
      github.add("a", begin + second, 502)
      github.add("b", begin + 2 * second, 502)
      github.add("c", begin + 3 * second, 502)
      github.isLeftOut = ({ guid }) => guid === "b"
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(states(), { a: "recovered", c: "recovered" })
    }))

  it.effect("with a status is found although no full pass comes to its end, and that is said once", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      github.failureOf = { all: failed }
      github.add("a", begin + second, 502)
      const { lines, operators } = yield* start()
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(states(), { a: "recovered" })
      assert.lengthOf(lines("missing deliveries can't be looked for"), 1)
      assert.lengthOf(lines("missing deliveries can be looked for again"), 0)
      const since = "sprayproxy_recovery_failing_since_timestamp_seconds"
      assert.strictEqual((yield* scrape).value(since), begin / second)
      assert.deepStrictEqual((yield* operators.status()).failing, { since: begin, reason: failed.reason })
      github.failureOf = {}
      yield* TestClock.adjust("3 minutes")
      assert.lengthOf(lines("missing deliveries can be looked for again"), 1)
      assert.strictEqual((yield* scrape).value(since), 0)
    })))

  it.effect("is asked for although GitHub's API fails again and again on newer ones", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const { redelivered } = github
      github.redelivered = (guid) => guid.startsWith("odd") ? Effect.fail(failed) : redelivered(guid)
      yield* start()
      for (let n = 0; n < 12; n += 1) {
        github.add(`odd ${n}`, begin + 20 * second, 502)
        github.add(`${n}`, begin + 10 * second, 502)
      }
      yield* TestClock.adjust("3 hours")
      const recovered = Object.entries(states()).filter(([, state]) => state === "recovered")
      assert.lengthOf(recovered, 12)
      // Those that fail stay wanted, and are tried on.
      const before = github.asked.length
      yield* TestClock.adjust("2 hours")
      assert.isAtLeast(github.asked.length, before + 12)
      assert.lengthOf(Object.keys(states()), 24)
      github.redelivered = redelivered
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(new Set(Object.values(states())), new Set(["recovered"]))
    }))

  it.effect("is the next probe, and not one again that never arrives, if nothing else comes", () =>
    Effect.gen(function*() {
      const { github, start, states, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const { redelivered } = github
      github.redelivered = (guid) => guid === "lost" ? Effect.succeed("accepted") : redelivered(guid)
      yield* start()
      github.add("lost", begin + 10 * second, 502)
      yield* TestClock.adjust("10 minutes")
      github.add("a", begin + 10 * minute, 502, { event: "issue_comment" })
      yield* TestClock.adjust("35 minutes")
      assert.deepStrictEqual(states(), { lost: "asked", a: "recovered" })
    }))
})
