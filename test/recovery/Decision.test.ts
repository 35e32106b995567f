import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { decide, priorityOf, reasons, type Rules } from "../../src/recovery/Decision.ts"
import type { LoggedAttempt } from "../../src/recovery/GitHubLog.ts"
import { LogReading } from "../../src/recovery/LoggedDelivery.ts"
import type { Recalled } from "../../src/store/contract/Recovery.ts"

const minute = 60_000
const now = 1_800_000_000_000
const rules: Rules = { now, oldest: now - 72 * 60 * minute, settling: 30_000, anew: false }

/** An attempt in a generated log. `ago`: minutes. */
interface Attempt {
  readonly statusCode: number
  readonly ago: number
}

/** The whole truth of one delivery. */
interface Fate {
  readonly attempts: ReadonlyArray<Attempt>
  readonly held: boolean
  readonly fallback: "complete" | "lacking" | undefined
  readonly state: "wanted" | "asked" | "recovered" | "given up" | undefined
}

const among = <const A>(...values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.map(
    Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: values.length - 1 }))),
    (at) => values[at]!
  )

const anyStatus = among(0, 200, 202, 301, 400, 404, 413, 500, 502, 503)
/** Twice the window, so that some is too old. */
const anyAgo = Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 * 72 * 60 })))
const anyFate: Arbitrary.Arbitrary<Fate> = Arbitrary.all({
  attempts: Arbitrary.array(Arbitrary.all({ statusCode: anyStatus, ago: anyAgo }), { minLength: 1, maxLength: 4 }),
  held: Arbitrary.schema(Schema.Boolean),
  fallback: among(undefined, undefined, "complete", "lacking"),
  state: among(undefined, undefined, "wanted", "asked", "recovered", "given up")
})
const anyFates = Arbitrary.array(anyFate, { maxLength: 8 })
const anyOrder = Arbitrary.array(Arbitrary.schema(Schema.Int), { minLength: 32, maxLength: 32 })

const guidOf = (at: number) => `guid-${at}`

const logOf = (all: ReadonlyArray<Fate>): ReadonlyArray<LoggedAttempt> =>
  all.flatMap(({ attempts }, at) => attempts.map(({ ago, statusCode }, n) => attemptOf(guidOf(at), ago, statusCode, n)))

const attemptOf = (guid: string, ago: number, statusCode: number, n = 0): LoggedAttempt => ({
  id: `9007199254740993${n}`,
  guid,
  deliveredAt: now - ago * minute,
  redelivery: n > 0,
  statusCode,
  event: "push",
  action: undefined,
  installationId: undefined,
  repositoryId: undefined,
  throttledAt: undefined
})

const recalledOf = ({ fallback, held, state }: Fate, at: number): Recalled | undefined =>
  !held && fallback === undefined && state === undefined
    ? undefined
    : { guid: guidOf(at), held, fallback, recovery: state === undefined ? undefined : { state, asks: 1 } }

const byGuid = (a: { readonly guid: string }, b: { readonly guid: string }) => a.guid < b.guid ? -1 : 1

const readingOf = (attempts: Iterable<LoggedAttempt>): LogReading => {
  const reading = new LogReading()
  for (const attempt of attempts) reading.add(attempt)
  return reading
}

/** The decision on each delivery of a generated log, by number. Undefined: the log shows no failure of it. */
const decisionsOf = (all: ReadonlyArray<Fate>, changed: Partial<Rules> = {}) => {
  const logged = new Map(readingOf(logOf(all)).failed().map((one) => [one.guid, one]))
  return all.map((one, at) => {
    const delivery = logged.get(guidOf(at))
    return delivery && decide(delivery, recalledOf(one, at), { ...rules, ...changed })
  })
}

const isSuccess = (code: number) => code >= 200 && code < 300
const isLate = ({ attempts }: Fate) => attempts.every(({ ago }) => ago >= 10)
const isAnswered = ({ attempts }: Fate) => attempts.some((one) => isSuccess(one.statusCode))
const failuresOf = ({ attempts }: Fate) => attempts.filter((one) => !isSuccess(one.statusCode))

describe("a delivery in any log", () => {
  it.prop("is never asked for if the ledger holds it", { fates: anyFates }, ({ fates }) => {
    for (const anew of [false, true]) {
      decisionsOf(fates, { anew }).forEach((decision, at) => {
        if (fates[at]!.held && decision !== undefined) assert.strictEqual(decision, "held")
      })
    }
  })

  it.prop(
    "is never asked for if it was answered and no backend is known to lack it",
    { fates: anyFates },
    ({ fates }) => {
      for (const anew of [false, true]) {
        decisionsOf(fates, { anew }).forEach((decision, at) => {
          if (isAnswered(fates[at]!) && fates[at]!.fallback !== "lacking") assert.notStrictEqual(decision, "missing")
        })
      }
    }
  )

  it.prop("is never asked for if every backend has it, or it is recovered", { fates: anyFates }, ({ fates }) => {
    for (const anew of [false, true]) {
      decisionsOf(fates, { anew }).forEach((decision, at) => {
        const { fallback, state } = fates[at]!
        if (fallback === "complete" || state === "recovered") assert.notStrictEqual(decision, "missing")
      })
    }
  })

  it.prop("is asked for, or given up for a reason, if nobody has answered for it", { fates: anyFates }, ({ fates }) => {
    decisionsOf(fates).forEach((decision, at) => {
      const one = fates[at]!
      if (one.held || one.fallback !== undefined || isAnswered(one) || !isLate(one)) return
      const tooLarge = one.attempts.some(({ statusCode }) => statusCode === 413)
      const tooOld = one.attempts.some(({ ago }) => ago > 72 * 60)
      const expected = one.state === "recovered" || one.state === "given up"
        ? "ended"
        : tooLarge
        ? { giveUp: reasons.tooLarge }
        : tooOld
        ? { giveUp: reasons.tooOld }
        : "missing"
      assert.deepStrictEqual(decision, expected)
    })
  })

  it.prop("is asked for if a backend lacks it, whatever GitHub was answered", { fates: anyFates }, ({ fates }) => {
    decisionsOf(fates).forEach((decision, at) => {
      const one = fates[at]!
      const isOpen = one.state !== "recovered" && one.state !== "given up"
      if (decision === undefined || one.held || one.fallback !== "lacking" || !isOpen || !isLate(one)) return
      const tooOld = failuresOf(one).some(({ ago }) => ago > 72 * 60)
      assert.deepStrictEqual(decision, tooOld ? { giveUp: reasons.tooOld } : "missing")
    })
  })

  it.prop("is not decided by the order of the rows, nor by rows that are listed twice", {
    fates: anyFates,
    order: anyOrder
  }, (given) => {
    const log = logOf(given.fates)
    const shuffled = log.map((attempt, at) => ({ attempt, by: given.order[at]! })).toSorted((a, b) => a.by - b.by)
      .map(({ attempt }) => attempt)
    const inOrder = readingOf(log).failed()
    assert.deepStrictEqual(readingOf([...shuffled, ...log]).failed().toSorted(byGuid), inOrder.toSorted(byGuid))
  })

  it.prop(
    "is asked for by its latest failed attempt, and failed when the first did",
    { fates: anyFates },
    ({ fates }) => {
      for (const { attemptId, failedAt, guid } of readingOf(logOf(fates)).failed()) {
        const rows = logOf(fates).filter((row) => row.guid === guid && !isSuccess(row.statusCode))
        assert.strictEqual(failedAt, Math.min(...rows.map(({ deliveredAt }) => deliveredAt)))
        const latest = rows.find(({ id }) => id === attemptId)!
        assert.isTrue(rows.every(({ deliveredAt }) => deliveredAt <= latest.deliveredAt))
      }
    }
  )
})

const deliveryOf = (...attempts: ReadonlyArray<LoggedAttempt>) => readingOf(attempts).failed()[0]!

describe("a delivery", () => {
  it("that GitHub counts as timed out although the ledger has it is held", () => {
    const held: Recalled = { guid: "a", held: true, fallback: undefined, recovery: undefined }
    assert.strictEqual(decide(deliveryOf(attemptOf("a", 20, 0)), held, rules), "held")
  })

  it("whose latest attempt may be under way here is left to the next pass", () => {
    const delivery = deliveryOf(attemptOf("a", 20, 502), { ...attemptOf("a", 0, 0, 1), deliveredAt: now - 29_999 })
    assert.strictEqual(decide(delivery, undefined, rules), "early")
    assert.strictEqual(decide(delivery, undefined, { ...rules, now: now + 1 }), "missing")
  })

  it("that GitHub holds back is left to GitHub for a while", () => {
    const delivery = deliveryOf({ ...attemptOf("a", 20, 0), throttledAt: now - 9 * minute })
    assert.strictEqual(decide(delivery, undefined, rules), "early")
    assert.strictEqual(decide(delivery, undefined, { ...rules, now: now + minute }), "missing")
  })

  it("that was answered 413 is given up, unless an operator asks", () => {
    const delivery = deliveryOf(attemptOf("a", 20, 413))
    assert.deepStrictEqual(decide(delivery, undefined, rules), { giveUp: reasons.tooLarge })
    assert.strictEqual(decide(delivery, undefined, { ...rules, anew: true }), "missing")
  })

  it("that is older than the window is given up, unless an operator asks", () => {
    const delivery = deliveryOf(attemptOf("a", 72 * 60 + 1, 502))
    assert.deepStrictEqual(decide(delivery, undefined, rules), { giveUp: reasons.tooOld })
    assert.strictEqual(decide(delivery, undefined, { ...rules, anew: true }), "missing")
  })

  it("that was given up is missing again when an operator asks", () => {
    const givenUp: Recalled = {
      guid: "a",
      held: false,
      fallback: undefined,
      recovery: { state: "given up", asks: 5 }
    }
    assert.strictEqual(decide(deliveryOf(attemptOf("a", 20, 502)), givenUp, rules), "ended")
    assert.strictEqual(decide(deliveryOf(attemptOf("a", 20, 502)), givenUp, { ...rules, anew: true }), "missing")
  })

  it("that is answered without the store when it comes again waits for the record, and is then given up", () => {
    const asked: Recalled = { guid: "a", held: false, fallback: undefined, recovery: { state: "asked", asks: 1 } }
    const delivery = deliveryOf(attemptOf("a", 20, 502), attemptOf("a", 5, 200, 1))
    assert.strictEqual(decide(delivery, asked, rules), "early")
    assert.deepStrictEqual(decide(delivery, asked, { ...rules, now: now + 5 * minute }), { giveUp: reasons.answered })
  })

  it("is known by its attempt's id beyond 2^53", () => {
    const one = attemptOf("a", 20, 502)
    const latestOf = (...ids: ReadonlyArray<string>) => deliveryOf(...ids.map((id) => Object.assign({}, one, { id })))
    assert.strictEqual(latestOf("9007199254740992", "9007199254740993").attemptId, "9007199254740993")
    assert.strictEqual(latestOf("99", "100").attemptId, "100")
  })
})

describe("the order of requests", () => {
  it("has the events that start pipelines first", () => {
    const events = ["status", "check_suite", "check_run", "issue_comment", "pull_request", "push", "label"]
    assert.deepStrictEqual(events.toSorted((a, b) => priorityOf(a) - priorityOf(b)), [
      "push",
      "pull_request",
      "issue_comment",
      "check_run",
      "check_suite",
      "status",
      "label"
    ])
  })
})
