import { describe, expect, it } from "@effect/vitest"
import { isAway, isRetryable, isSuccess, ofStatus, type Outcome } from "../../src/domain/Outcome.ts"

const statuses = Array.from({ length: 800 }, (_, at) => at + 200)
const outcomes: ReadonlyArray<Outcome> = [
  "delivered",
  "rejected",
  "failed",
  "unreachable",
  "broken off",
  "timed out"
]

describe("Outcome", () => {
  it("is delivered for 2xx, rejected for PaC's own words on the body, failed for all others", () => {
    expect(statuses.filter((code) => ofStatus(code) === "rejected")).toEqual([400, 413])
    expect(statuses.filter((code) => ofStatus(code) === "delivered")).toEqual(statuses.slice(0, 100))
    expect(statuses.filter((code) => ofStatus(code) === "failed")).toHaveLength(698)
  })

  it("is a success where sending again would not help", () => {
    expect(outcomes.filter(isSuccess)).toEqual(["delivered", "rejected"])
  })

  it("is a sign of a backend that is away without a status, and with what is said in its place", () => {
    expect(outcomes.filter((outcome) => isAway(outcome, undefined))).toEqual(["unreachable", "broken off", "timed out"])
    expect(statuses.filter((code) => isAway(ofStatus(code), code))).toEqual([429, 502, 503, 504])
  })

  it("is sent again when it is unreachable, and after no other without a status", () => {
    expect(outcomes.filter((outcome) => isRetryable(outcome, undefined))).toEqual(["unreachable"])
  })

  it("is sent again after 429 and 503 and no other status", () => {
    expect(statuses.filter((code) => isRetryable(ofStatus(code), code))).toEqual([429, 503])
  })
})
