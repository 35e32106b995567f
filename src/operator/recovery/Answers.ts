/** The JSON answers of `/recovery`. The descriptions stand in the OpenAPI document too. */
import * as Schema from "effect/Schema"
import { Time } from "../Answers.ts"

const Progress = Schema.Struct({
  type: Schema.Literal("progress"),
  attempts: Schema.Finite.annotate({ description: "how many of GitHub's attempts have been looked at" }),
  reached: Schema.NullOr(Time).annotate({ description: "the time of the oldest of them: a look goes back in time" })
}).annotate({ identifier: "RecoveryProgress", description: "every few seconds, also if there is nothing new" })

const Found = Schema.Struct({
  type: Schema.Literal("found"),
  guid: Schema.String.annotate({ description: "X-GitHub-Delivery" }),
  event: Schema.String.annotate({ description: "X-GitHub-Event" }),
  action: Schema.NullOr(Schema.String),
  failedAt: Time.annotate({ description: "when it first failed, by GitHub's clock" }),
  status: Schema.Finite.annotate({ description: "of the last answer to GitHub; 0: there was none" }),
  isMissing: Schema.Boolean.annotate({
    description: "false: it may still be under way, and a later look decides. It is not asked for"
  }),
  why: Schema.String.annotate({ description: "the status in words, for people" }),
  requests: Schema.Finite.annotate({ description: "how often GitHub has been asked for it" })
}).annotate({ identifier: "FoundDelivery" })

const Report = Schema.Struct({
  type: Schema.Literal("report"),
  run: Schema.NullOr(Schema.String).annotate({ description: "the name for GET /recovery; null after a dry run" }),
  since: Time.annotate({ description: "how far the look went back. The ledger remembers nothing older" }),
  attempts: Schema.Finite,
  failed: Schema.Finite.annotate({
    description: "the deliveries that failed at GitHub, or that backends lack: the sum of all below"
  }),
  held: Schema.Finite.annotate({ description: "on disk here" }),
  answered: Schema.Finite.annotate({ description: "answered without the store, or every backend has it" }),
  recovered: Schema.Finite.annotate({ description: "recovered before" }),
  missing: Schema.Finite,
  early: Schema.Finite.annotate({ description: "may still be under way" })
}).annotate({ identifier: "RecoveryReport", description: "the last line, if the look came to its end" })

const Failure = Schema.Struct({
  type: Schema.Literal("failure"),
  reason: Schema.String.annotate({ description: "one line" })
}).annotate({ identifier: "RecoveryFailure", description: "the last line, if it did not" })

/** A line of the answer of `POST /recovery`. */
export const LookLine = Schema.Union([Progress, Found, Report, Failure]).annotate({ identifier: "RecoveryLine" })

export type LookLine = typeof LookLine.Type
export type ProgressLine = typeof Progress.Type
export type FoundLine = typeof Found.Type
export type ReportLine = typeof Report.Type

const Pass = Schema.Struct({
  completedAt: Time,
  scannedTo: Time.annotate({ description: "all of GitHub's log before this was seen, by GitHub's clock" })
}).annotate({ identifier: "RecoveryPass" })

const byReconciler = "null from another instance than the reconciler"

/** The answer of `GET /recovery`. */
export const StatusAnswer = Schema.Struct({
  wanted: Schema.Finite.annotate({ description: "missing, and to be asked for" }),
  asked: Schema.Finite.annotate({ description: "asked for, and not here yet" }),
  recovered: Schema.Finite,
  givenUp: Schema.Finite.annotate({ description: "not asked for any more" }),
  oldestFailedAt: Schema.NullOr(Time).annotate({ description: "since when the oldest is missing, by GitHub's clock" }),
  lastRecoveredAt: Schema.NullOr(Time),
  startedAt: Time.annotate({ description: "the first start with recovery: nothing older is looked for unasked" }),
  failures: Schema.NullOr(Pass).annotate({ description: "the last complete pass over failures" }),
  full: Schema.NullOr(Pass).annotate({ description: "the last complete full pass" }),
  reconciler: Schema.NullOr(Schema.String).annotate({ description: "the instance that looks and asks" }),
  failing: Schema.NullOr(Schema.Struct({ since: Time, reason: Schema.String })).annotate({ description: byReconciler }),
  heldBack: Schema.NullOr(Schema.Boolean).annotate({
    description: `requests are held back, because nothing that was asked for arrives; ${byReconciler}`
  })
}).annotate({ identifier: "RecoveryStatus" })
