/**
 * A look through GitHub's log: reads a part of it, and decides on each delivery that has failed there, and on each that
 * was answered without the store and that a backend lacks.
 *
 * **Details**
 *
 * - A look reads until a whole page is older than it has to be. A single old row says nothing, because rows come late,
 *   and an empty page says nothing at all.
 * - Everything is read before anything is decided. The answer to a delivery may stand further down than its failure.
 * - Nothing is decided either while records of deliveries without the store are on their way to it. Without them all
 *   backends would get what some have.
 * - The hook id is learned by one request in the life of a process. The one in the store may be that of another App.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { FallbackRecords } from "../durable/fallback/FallbackRecords.ts"
import { Settings } from "../settings/Settings.ts"
import { RecoveryStore } from "../store/RecoveryStore.ts"
import type { RecoveryProgress, Wanted } from "../store/contract/Recovery.ts"
import type { StoreUnavailable } from "../store/contract/Unavailable.ts"
import { decide, type Decision, priorityOf } from "./Decision.ts"
import { GitHubLog, type GitHubUnavailable, type LoggedAttempt } from "./GitHubLog.ts"
import { type LoggedDelivery, LogReading } from "./LoggedDelivery.ts"

export type Looking = Effect.Success<typeof make>

/** The part of the log that is to be read. */
export interface Part {
  readonly which: "all" | "failures"
  /** By GitHub's clock. */
  readonly from: number
}

/** A delivery with the decision on it. */
export interface Decided {
  readonly delivery: LoggedDelivery
  readonly decision: Decision
  /** Backends lack it although it was answered. */
  readonly isLacking: boolean
  /** The requests for it so far. */
  readonly asks: number
}

export const make = Effect.gen(function*() {
  const log = yield* GitHubLog
  const store = yield* RecoveryStore
  const records = yield* FallbackRecords
  const settings = yield* Settings
  /** An attempt ends with the forwarding timeout, and its outcome is written a moment later. */
  const settling = Duration.toMillis(settings.forwardingTimeout) + margin
  /** Nobody can tell whether a delivery was held that the ledger has forgotten. */
  const memory = Duration.toMillis(settings.retainDead)
  const window = Math.min(Duration.toMillis(settings.recoveryMaxAge), memory)
  let hookId: string | undefined

  /** `each` sees every attempt of the part, once for each time that it is listed. */
  const read = Effect.fnUntraced(function*(
    { from, which }: Part,
    each: (attempt: LoggedAttempt) => void,
    afterPage: (reading: LogReading) => Effect.Effect<void>
  ) {
    const reading = new LogReading()
    yield* log.attempts(which).pipe(
      Stream.takeUntil((page) => page.length > 0 && page.every(({ deliveredAt }) => deliveredAt < from)),
      Stream.runForEach((page) => {
        for (const attempt of page) {
          if (attempt.deliveredAt < from) continue
          reading.add(attempt)
          each(attempt)
        }
        return afterPage(reading)
      })
    )
    return reading
  })

  const hookOf = Effect.fnUntraced(function*(progress: RecoveryProgress, attemptId: string) {
    if (hookId !== undefined) return hookId
    const learned = yield* log.hookIdOf(attemptId)
    // A detail may be missing for a while after its row was listed.
    if (learned === undefined) return progress.hookId
    if (learned !== progress.hookId) yield* store.advance({ hookId: learned })
    return hookId = learned
  })

  /** Calls `take` with lots of at most `lot` deliveries. */
  const decideAll = Effect.fnUntraced(function*<E>(
    reading: LogReading,
    { anew, events, progress }: {
      readonly progress: RecoveryProgress
      readonly anew: boolean
      readonly events?: ReadonlyArray<string> | undefined
    },
    take: (decided: ReadonlyArray<Decided>) => Effect.Effect<void, E>
  ): Effect.fn.Return<void, E | GitHubUnavailable | StoreUnavailable> {
    const isOfEvent = ({ event }: LoggedDelivery) => events?.includes(event) !== false
    const failed = reading.failed().filter(isOfEvent)
    const hook = failed.length === 0 ? hookId ?? progress.hookId : yield* hookOf(progress, failed.at(-1)!.attemptId)
    const rules = { now: progress.now, oldest: progress.now - window, settling, anew }
    const decidedOn = (deliveries: ReadonlyArray<LoggedDelivery>) =>
      Effect.map(Effect.andThen(records.allKept, store.recall(deliveries.map(({ guid }) => guid), hook)), (all) => {
        const recalled = new Map(all.map((one) => [one.guid, one]))
        return deliveries.map((delivery): Decided => {
          const known = recalled.get(delivery.guid)
          return {
            delivery,
            decision: decide(delivery, known, rules),
            isLacking: known?.fallback === "lacking",
            asks: known?.recovery?.asks ?? 0
          }
        })
      })
    for (const deliveries of lotsOf(failed)) yield* take(yield* decidedOn(deliveries))
    for (const deliveries of lotsOf(reading.answered().filter(isOfEvent))) {
      const lacking = (yield* decidedOn(deliveries)).filter(({ decision, isLacking }) =>
        isLacking && decision !== "held" && decision !== "ended"
      )
      if (lacking.length > 0) yield* take(lacking)
    }
  })

  return { read, decideAll, memory, settling, window }
})

export const wantedOf = ({ attemptId, event, failedAt, guid }: LoggedDelivery, run?: string): Wanted => ({
  guid,
  event,
  attemptId,
  failedAt,
  priority: priorityOf(event),
  run
})

const lotsOf = (deliveries: ReadonlyArray<LoggedDelivery>): ReadonlyArray<ReadonlyArray<LoggedDelivery>> =>
  Array.from({ length: Math.ceil(deliveries.length / lot) }, (_, at) => deliveries.slice(at * lot, (at + 1) * lot))

/** Milliseconds. */
const margin = 15_000

/** The most deliveries that the store is asked about at once. */
export const lot = 500
