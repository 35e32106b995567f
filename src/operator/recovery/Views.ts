/** Recovery as an operator sees it. */
import * as Struct from "effect/Struct"
import { isoTime } from "../../domain/Time.ts"
import type { LookFound, LookProgress, LookReport, RecoveryStatus } from "../../recovery/Recovery.ts"
import type { LookLine, StatusAnswer } from "./Answers.ts"

type FoundDelivery = LookFound["deliveries"][number]

/** The lines that tell of one step of a look. */
export const lookLines = (step: LookProgress | LookFound | LookReport): ReadonlyArray<LookLine> => {
  switch (step.kind) {
    case "progress":
      return [{ type: "progress", attempts: step.attempts, reached: isoTime(step.at) }]
    case "found":
      return step.deliveries.map(foundLine)
    case "report": {
      const counts = Struct.omit(step, ["kind", "dryRun"])
      return [{ type: "report", ...counts, run: step.dryRun ? null : step.run, since: isoTime(step.since) }]
    }
  }
}

const foundLine = (found: FoundDelivery): LookLine => ({
  type: "found",
  guid: found.guid,
  event: found.event,
  action: found.action ?? null,
  failedAt: isoTime(found.failedAt),
  status: found.statusCode,
  isMissing: found.finding === "missing",
  why: whyOf(found),
  requests: found.asks
})

const whyOf = ({ fallback, finding, statusCode }: FoundDelivery): string => {
  const answer = fallback
    ? "backends lack it"
    : statusCode === 0
    ? "no answer"
    : `answered ${statusCode}`
  return finding === "early" ? `${answer}; may still be under way` : answer
}

/** The JSON answer of the status. */
export const statusAnswer = (status: RecoveryStatus): typeof StatusAnswer.Type => ({
  wanted: status.wanted,
  asked: status.asked,
  recovered: status.recovered,
  givenUp: status.givenUp,
  oldestFailedAt: timeOf(status.oldestFailedAt),
  lastRecoveredAt: timeOf(status.lastRecoveredAt),
  startedAt: isoTime(status.startedAt),
  failures: passOf(status.passes.failures),
  full: passOf(status.passes.full),
  reconciler: status.reconciler ?? null,
  failing: status.failing === undefined
    ? null
    : { since: isoTime(status.failing.since), reason: status.failing.reason },
  heldBack: status.heldBack ?? null
})

const timeOf = (millis: number | undefined) => millis === undefined ? null : isoTime(millis)

const passOf = (pass: RecoveryStatus["passes"]["full"]) =>
  pass === undefined ? null : { completedAt: isoTime(pass.completedAt), scannedTo: isoTime(pass.scannedTo) }
