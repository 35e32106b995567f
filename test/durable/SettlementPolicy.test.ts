import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import type { AttemptReport } from "../../src/domain/AttemptReport.ts"
import { type Outcome, outcomes } from "../../src/domain/Outcome.ts"
import { SettlementPolicy } from "../../src/durable/SettlementPolicy.ts"
import { Settings } from "../../src/settings/Settings.ts"

const report = (outcome: Outcome, rest: Partial<AttemptReport> = {}): AttemptReport => ({
  outcome,
  status: undefined,
  error: undefined,
  answer: undefined,
  latency: 12,
  requests: 1,
  ...rest
})

const row = { id: "1", key: "http://a", tries: 0, isFresh: true, age: 0 }

const becomes = (outcome: Outcome, settings: Partial<Settings["Service"]> = {}, given: Partial<typeof row> = {}) =>
  Effect.gen(function*() {
    const policy = yield* SettlementPolicy
    return policy.settlement({ ...row, ...given }, report(outcome)).become
  }).pipe(Effect.provide(SettlementPolicy.layer.pipe(Layer.provide(Settings.layerFrom(settings)))))

const settlementOf = (given: Partial<typeof row>, said: AttemptReport) =>
  Effect.map(SettlementPolicy, (policy) => policy.settlement({ ...row, ...given }, said)).pipe(
    Effect.provide(SettlementPolicy.layer.pipe(Layer.provide(Settings.layerFrom({}))))
  )

const isFirst = (given: Partial<typeof row>) =>
  Effect.map(settlementOf(given, report("delivered")), (settlement) => settlement.isFirst)

describe("an outcome", () => {
  it.effect("ends a row when the backend has it, or has refused its body", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* becomes("delivered"), "delivered")
      assert.strictEqual(yield* becomes("rejected"), "rejected")
    }))

  it.effect("is followed by another attempt in all other cases", () =>
    Effect.gen(function*() {
      for (const outcome of outcomes.slice(2)) assert.isObject(yield* becomes(outcome), outcome)
    }))

  it.effect("that leaves the arrival open makes a row dead for those who prefer a loss to a duplicate", () =>
    Effect.gen(function*() {
      const settings = { retryUnknown: false }
      assert.strictEqual(yield* becomes("timed out", settings), "dead")
      assert.strictEqual(yield* becomes("broken off", settings), "dead")
      assert.isObject(yield* becomes("unreachable", settings))
      assert.isObject(yield* becomes("failed", settings))
    }))

  it.effect("makes a row dead that is too old, unless it is a good one", () =>
    Effect.gen(function*() {
      const age = 72 * 3_600_000 + 1
      assert.strictEqual(yield* becomes("failed", {}, { age }), "dead")
      assert.strictEqual(yield* becomes("delivered", {}, { age }), "delivered")
      assert.isObject(yield* becomes("failed", {}, { age: age - 1 }))
    }))

  it.effect("is a first one only of a fresh delivery, and while its row stays young for long enough to be told", () =>
    Effect.gen(function*() {
      assert.isTrue(yield* isFirst({}))
      assert.isTrue(yield* isFirst({ age: 8_999 }))
      assert.isFalse(yield* isFirst({ age: 9_000 }))
      assert.isFalse(yield* isFirst({ isFresh: false }))
    }))

  it.effect("is kept with its time and its words", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(5_000)
      const settled = yield* settlementOf({}, report("failed", { status: 500, answer: "no", error: "x" }))
      assert.deepStrictEqual(settled.attempt, {
        at: 5_000,
        outcome: "failed",
        status: 500,
        latency: 12,
        error: "x",
        answer: "no"
      })
    }))
})

const delays = (tries: number) =>
  Effect.map(
    Effect.replicateEffect(settlementOf({ tries }, report("failed")), 50),
    (settled) => settled.map(({ become }) => typeof become === "object" ? become.retryIn : -1)
  )

const waits = (retryAfter: number) =>
  Effect.map(settlementOf({}, report("failed", { retryAfter })), ({ become }) => become)

describe("the next attempt", () => {
  it.effect("waits from 1 s on, twice as long each time up to 5 min, with jitter on the upper half", () =>
    Effect.gen(function*() {
      for (const [tries, longest] of [[0, 1_000], [1, 2_000], [5, 32_000], [9, 300_000], [4_000, 300_000]] as const) {
        const seen = yield* delays(tries)
        assert.isTrue(seen.every((delay) => delay >= longest / 2 && delay <= longest), `${tries}: ${seen.join()}`)
        assert.isAbove(new Set(seen).size, 10)
      }
    }))

  it.effect("waits for what Retry-After asks for, an hour at most", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* waits(60_000), { retryIn: 60_000 })
      assert.deepStrictEqual(yield* waits(7 * 24 * 3_600_000), { retryIn: 3_600_000 })
    }))
})
