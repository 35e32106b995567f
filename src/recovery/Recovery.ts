/**
 * The room's face for operators: a look through GitHub's log on request, and what recovery has come to.
 *
 * **Details**
 *
 * - A look needs no lease. Any process may look, and what it finds missing is in the store for the reconciler to ask for.
 * - A look goes back as far as GitHub's log does, but no further than the ledger remembers. Beyond that, nobody could
 *   tell a delivery that is missing from one that was delivered and pruned.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { RecoveryStore } from "../store/RecoveryStore.ts"
import type { StoreUnavailable } from "../store/contract/Unavailable.ts"
import type { Decision } from "./Decision.ts"
import type { GitHubUnavailable } from "./GitHubLog.ts"
import * as Looking from "./Looking.ts"
import { Reconciler } from "./reconciler/Reconciler.ts"

/** The wish for a look. */
export interface LookQuestion {
  /** Attempts of this time or later, by GitHub's clock. */
  readonly since: number
  /** Only deliveries of these events. Undefined: all. */
  readonly events?: ReadonlyArray<string> | undefined
  /** Nothing becomes wanted. */
  readonly dryRun: boolean
  /** The name of the run, under which its deliveries are counted later. */
  readonly run: string
}

/** How far a look has come. */
export interface LookProgress {
  readonly kind: "progress"
  readonly attempts: number
  /** The oldest attempt that was read so far. */
  readonly at: number
}

/**
 * What becomes of a delivery that has failed and that nobody answers for.
 *
 * - `missing`: GitHub is to be asked for it.
 * - `early`: it may still be under way here, or GitHub holds it back. A later look decides.
 */
type Finding = "missing" | "early"

/** A delivery that failed at GitHub, or that backends lack, as a look has found it. */
interface FoundDelivery {
  readonly finding: Finding
  readonly guid: string
  readonly event: string
  readonly action: string | undefined
  /** The first failure that the look has seen. */
  readonly failedAt: number
  /** The status of GitHub's latest failed attempt. 0: no answer. */
  readonly statusCode: number
  /** Backends lack it although it was answered, because it went without the store. */
  readonly fallback: boolean
  /** The requests for it so far. */
  readonly asks: number
}

/** Some of what was found. */
export interface LookFound {
  readonly kind: "found"
  /** At most `mostFound`. */
  readonly deliveries: ReadonlyArray<FoundDelivery>
}

/** The end of a look. Deliveries are counted, not attempts, unless it says otherwise. */
export interface LookReport {
  readonly kind: "report"
  readonly run: string
  readonly dryRun: boolean
  /** The look went back to this time: `since`, or as far as the ledger remembers. */
  readonly since: number
  readonly attempts: number
  /** Failed at GitHub, or lacking at backends: the sum of all below. */
  readonly failed: number
  /** Failed at GitHub, and on disk here. */
  readonly held: number
  /** Answered, or had by every backend, without the store. */
  readonly answered: number
  /** Recovered already. */
  readonly recovered: number
  readonly missing: number
  readonly early: number
}

/** The most deliveries in one `LookFound`. */
export const mostFound = Looking.lot

/** A pass that has come to its end. */
interface PassStatus {
  readonly completedAt: number
  /** Everything in GitHub's log before this was seen. */
  readonly scannedTo: number
}

/** Recovery at this moment. Times are Unix milliseconds. */
export interface RecoveryStatus {
  /** GitHub is to be asked for it. */
  readonly wanted: number
  /** GitHub was asked for it, and it has not arrived. */
  readonly asked: number
  readonly recovered: number
  readonly givenUp: number
  /** The first failure of the delivery that is missing for longest, by GitHub's clock. */
  readonly oldestFailedAt: number | undefined
  readonly lastRecoveredAt: number | undefined
  /** The first start with recovery on this store. Passes look no further back. */
  readonly startedAt: number
  readonly passes: { readonly failures: PassStatus | undefined; readonly full: PassStatus | undefined }
  /** The name of the process that looks and asks. Undefined: nobody does now. */
  readonly reconciler: string | undefined
  /** The rest is known only to the reconciler itself. Elsewhere it is undefined. */
  readonly failing: { readonly since: number; readonly reason: string } | undefined
  /** Requests are held back, because nothing that was asked for arrives. */
  readonly heldBack: boolean | undefined
}

export class Recovery extends Context.Service<Recovery, {
  /**
   * Looks through GitHub's log: progress and what is found as it goes, the report at the end. Unless it is a dry run,
   * what is missing becomes wanted, also what was given up before.
   */
  readonly look: (
    question: LookQuestion
  ) => Stream.Stream<LookProgress | LookFound | LookReport, GitHubUnavailable | StoreUnavailable>
  /** The counts are those of one run, if it is named. */
  readonly status: (run?: string) => Effect.Effect<RecoveryStatus, StoreUnavailable>
}>()("sprayproxy/recovery/Recovery") {
  static readonly layer = Layer.effect(
    Recovery,
    Effect.gen(function*() {
      const store = yield* RecoveryStore
      const { standing } = yield* Reconciler
      const { decideAll, memory, read } = yield* Looking.make

      const look = Effect.fnUntraced(function*(
        { dryRun, events, run, since }: LookQuestion,
        tell: (news: LookProgress | LookFound | LookReport) => void
      ) {
        const progress = yield* store.progress
        const from = Math.max(since, progress.now - memory)
        const reading = yield* read({ which: "all", from }, () => {}, ({ attempts, earliest }) =>
          Effect.sync(() => {
            if (earliest !== undefined) tell({ kind: "progress", attempts, at: earliest })
          }))
        const counts = { held: 0, answered: 0, ended: 0, missing: 0, early: 0 }
        let failed = 0
        yield* decideAll(
          reading,
          { progress, anew: true, events },
          Effect.fnUntraced(function*(decided) {
            failed += decided.length
            for (const { decision } of decided) counts[countOf(decision)] += 1
            const wanted = decided.filter(({ decision }) => decision === "missing")
            if (!dryRun) {
              yield* store.want(wanted.map(({ delivery }) => Looking.wantedOf(delivery, run)), { anew: true })
            }
            const found = decided.flatMap(foundOf)
            if (found.length > 0) tell({ kind: "found", deliveries: found })
          })
        )
        const { ended: recovered, ...others } = counts
        tell({ kind: "report", run, dryRun, since: from, attempts: reading.attempts, failed, recovered, ...others })
      })

      return Recovery.of({
        look: (question) =>
          Stream.callback((queue) =>
            look(question, (news) => Queue.offerUnsafe(queue, news)).pipe(
              Effect.matchCauseEffect({
                onFailure: (cause) => Queue.failCause(queue, cause),
                onSuccess: () => Queue.end(queue)
              })
            )
          ),
        status: Effect.fnUntraced(function*(run) {
          const counts = yield* store.recoveryCounts(run)
          const { failures, full, leader, startedAt } = yield* store.progress
          return {
            ...counts,
            startedAt,
            passes: { failures, full },
            reconciler: leader,
            failing: standing.failing,
            heldBack: standing.isLeading ? standing.isHeldBack : undefined
          }
        })
      })
    })
  )
}

/** An operator's look gives nothing up, and one that answers for itself too late has an answer. */
const countOf = (decision: Decision) => typeof decision === "string" ? decision : "answered"

const foundOf = ({ asks, decision, delivery, isLacking }: Looking.Decided): ReadonlyArray<FoundDelivery> => {
  if (decision !== "missing" && decision !== "early") return []
  const { action, event, failedAt, guid, statusCode } = delivery
  return [{ finding: decision, guid, event, action, failedAt, statusCode, fallback: isLacking, asks }]
}
