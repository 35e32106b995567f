import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { GitHubUnavailable } from "../../src/recovery/GitHubLog.ts"
import { mostFound } from "../../src/recovery/Recovery.ts"
import { begin, hour, minute, second, setUp } from "./Script.ts"

const question = { since: begin - 24 * hour, dryRun: false, run: "r" }

const isReport = ({ kind }: { readonly kind: string }) => kind === "report"

describe("an operator's look", () => {
  it.effect("finds what is missing, and has it asked for, also what is older than the first start", () =>
    Effect.gen(function*() {
      const { arrive, github, recovery, start, takeRedeliveries } = yield* setUp()
      yield* takeRedeliveries
      const { operators } = yield* start()
      yield* arrive("held")
      for (const guid of ["held", "missing"]) github.add(guid, begin - 2 * hour, 0, { action: "opened" })
      github.add("answered", begin - 3 * hour, 202)
      github.add("before", begin - 25 * hour, 502)
      github.add("young", begin - second, 502)
      const told = Array.from(yield* Stream.runCollect(operators.look(question)))
      assert.deepInclude(told[0], { kind: "progress", attempts: 4, at: begin - 3 * hour })
      assert.deepStrictEqual(told.find(({ kind }) => kind === "found"), {
        kind: "found",
        deliveries: [
          {
            finding: "early",
            guid: "young",
            event: "push",
            action: undefined,
            failedAt: begin - second,
            statusCode: 502,
            fallback: false,
            asks: 0
          },
          {
            finding: "missing",
            guid: "missing",
            event: "push",
            action: "opened",
            failedAt: begin - 2 * hour,
            statusCode: 0,
            fallback: false,
            asks: 0
          }
        ]
      })
      assert.deepStrictEqual(told.at(-1), {
        kind: "report",
        run: "r",
        dryRun: false,
        since: question.since,
        attempts: 4,
        failed: 3,
        held: 1,
        answered: 0,
        recovered: 0,
        missing: 1,
        early: 1
      })
      assert.deepInclude(yield* operators.status("r"), { wanted: 1, recovered: 0 })
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(github.asked, ["missing"])
      assert.deepInclude(yield* operators.status("r"), { wanted: 0, recovered: 1, reconciler: "one", heldBack: false })
      assert.strictEqual((yield* recovery.recoveryCounts("another")).recovered, 0)
    }))

  it.effect("that is dry changes nothing", () =>
    Effect.gen(function*() {
      const { github, start, states } = yield* setUp()
      const { operators } = yield* start()
      github.add("missing", begin - 2 * hour, 0)
      const told = yield* Stream.runCollect(operators.look({ ...question, dryRun: true }))
      assert.include(told.find(isReport), { missing: 1 })
      assert.deepStrictEqual(states(), {})
    }))

  it.effect("at one event leaves the others out", () =>
    Effect.gen(function*() {
      const { github, start, states } = yield* setUp()
      const { operators } = yield* start()
      for (const event of ["push", "status"]) github.add(event, begin - 2 * hour, 0, { event })
      yield* Stream.runDrain(operators.look({ ...question, events: ["status"] }))
      assert.deepStrictEqual(states(), { status: "wanted" })
    }))

  it.effect("asks again for what was given up, and counts from the beginning", () =>
    Effect.gen(function*() {
      const { github, recovery, start, takeRedeliveries } = yield* setUp()
      const { operators } = yield* start()
      github.add("a", begin + second, 413)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* recovery.recoveryCounts()).givenUp, 1)
      yield* takeRedeliveries
      yield* Stream.runDrain(operators.look(question))
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* operators.status("r"), { recovered: 1, givenUp: 0 })
    }))

  it.effect("goes no further back than the ledger remembers", () =>
    Effect.gen(function*() {
      const { github, start } = yield* setUp()
      const { operators } = yield* start()
      github.add("a", begin - 8 * 24 * hour, 502)
      const told = yield* Stream.runCollect(operators.look({ ...question, since: 0 }))
      assert.include(told.find(isReport), { since: begin - 7 * 24 * hour, missing: 0 })
    }))

  it.effect("finds no more in one go than it says", () =>
    Effect.gen(function*() {
      const { github, start } = yield* setUp()
      const { operators } = yield* start()
      for (let n = 0; n < 2 * mostFound + 1; n += 1) github.add(`${n}`, begin - hour, 502)
      const told = Array.from(yield* Stream.runCollect(operators.look(question)))
      const found = told.flatMap((one) => one.kind === "found" ? [one.deliveries.length] : [])
      assert.deepStrictEqual(found, [mostFound, mostFound, 1])
    }))

  it.effect("that GitHub does not answer fails with its reason", () =>
    Effect.gen(function*() {
      const { github, start } = yield* setUp()
      const { operators } = yield* start()
      github.failure = new GitHubUnavailable({ kind: "suspended", reason: "GitHub has suspended the App" })
      const error = yield* Effect.flip(Stream.runDrain(operators.look(question)))
      assert.strictEqual(error.message, "GitHub has suspended the App")
    }))

  it.effect("needs no lease", () =>
    Effect.gen(function*() {
      const { github, start } = yield* setUp()
      yield* start("one")
      const { operators } = yield* start("two")
      yield* TestClock.adjust("1 second")
      github.add("a", begin - minute, 502)
      yield* Stream.runDrain(operators.look(question))
      assert.deepInclude(yield* operators.status(), { wanted: 1, reconciler: "one", heldBack: undefined })
    }))
})
