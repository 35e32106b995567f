/**
 * Decides what becomes of a delivery that has failed at GitHub, or that went without the store.
 *
 * **Details**
 *
 * - The ledger has the first word: the store delivers what it holds, whatever GitHub recorded. GitHub counts a delivery
 *   as timed out that was written a moment later.
 * - A delivery that went without the store is decided by its outcomes. GitHub's log does not know them.
 * - Nothing is decided while GitHub's latest attempt may still be under way here, nor for a while after GitHub has held
 *   it back, nor while a record of its outcomes may be on its way to the store. A later look brings the delivery again.
 * - An operator who asks knows more than the log, such as that the largest size was raised since. So the rules that give
 *   up do not hold for an operator.
 */
import type { Recalled } from "../store/contract/Recovery.ts"
import type { LoggedDelivery } from "./LoggedDelivery.ts"

/**
 * - `held`: the ledger has it.
 * - `answered`: it went without the store, and nobody lacks it, or nobody knows who does.
 * - `ended`: it is recovered, or was given up.
 * - `early`: it is too early to say.
 * - `missing`: GitHub is to be asked for it.
 */
export type Decision = "held" | "answered" | "ended" | "early" | "missing" | { readonly giveUp: string }

export interface Rules {
  /** Unix milliseconds. */
  readonly now: number
  /** What failed before is too old. */
  readonly oldest: number
  /** Milliseconds in which an attempt of GitHub's is surely over here, and written down. */
  readonly settling: number
  /** An operator has asked. */
  readonly anew: boolean
}

export const decide = (delivery: LoggedDelivery, recalled: Recalled | undefined, rules: Rules): Decision => {
  const state = recalled?.recovery?.state
  if (recalled?.held === true) return "held"
  if (state === "recovered") return "ended"
  if (recalled?.fallback === "complete") return "answered"
  const isLacking = recalled?.fallback === "lacking"
  if (delivery.isAnswered && !isLacking) {
    if (state !== "wanted" && state !== "asked") return "answered"
    return rules.now - delivery.latestAt < lateMillis ? "early" : { giveUp: reasons.answered }
  }
  if (state === "given up" && !rules.anew) return "ended"
  if (isEarly(delivery, rules)) return "early"
  if (rules.anew) return "missing"
  if (delivery.isTooLarge && !isLacking) return { giveUp: reasons.tooLarge }
  return delivery.failedAt < rules.oldest ? { giveUp: reasons.tooOld } : "missing"
}

/** Why a delivery is given up. */
export const reasons = {
  answered: "it was answered without the store",
  neverArrived: "it was asked for as often as may be, and has not arrived",
  tooLarge: "it was answered 413: larger than --max-request-size",
  tooOld: "it is older than --recovery-max-age"
}

const isEarly = ({ latestAt, throttledAt }: LoggedDelivery, { now, settling }: Rules): boolean =>
  now - latestAt < settling || (throttledAt !== undefined && now - throttledAt < lateMillis)

/** Milliseconds in which GitHub sends what it has held back, and a store that was away learns of fallbacks. */
const lateMillis = 600_000

/** The events that start pipelines. They go before all others, in this order. */
const firstEvents = ["push", "pull_request", "issue_comment", "check_run", "check_suite"]

/** A lower number is asked for first. */
export const priorityOf = (event: string): number => {
  const at = firstEvents.indexOf(event)
  return at < 0 ? firstEvents.length : at
}
