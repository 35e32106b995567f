/**
 * Asks GitHub for the deliveries that are missing: one at a time, at a pace, and as the gate lets it.
 *
 * **Details**
 *
 * - A request is written down before it goes out. The delivery is due again after 2 min, 15 min, 2 h and 12 h, and after
 *   five requests it is given up.
 * - Probes take turns: a delivery that never arrives keeps no other from being the next.
 * - A request counts against its delivery if GitHub has accepted it, and if it is no probe. If GitHub does not answer, it
 *   is asked for nothing for a while. A delivery on which it fails again and again is tried less and less often, so that
 *   the others have their turn.
 * - GitHub may refuse a request because it does not find a row that it has just listed. So a delivery is given up with
 *   the second refusal.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { BackendRegistry } from "../../backends/Registry.ts"
import { isoTime } from "../../domain/Time.ts"
import { Readiness } from "../../http/Readiness.ts"
import { Log } from "../../observability/logs/Logging.ts"
import { Timers } from "../../runtime/Timers.ts"
import { Settings } from "../../settings/Settings.ts"
import { RecoveryStore } from "../../store/RecoveryStore.ts"
import type { DueRequest } from "../../store/contract/Recovery.ts"
import { WebhookVerifier } from "../../webhook/Verifier.ts"
import { reasons } from "../Decision.ts"
import { type GitHubFailure, GitHubLog } from "../GitHubLog.ts"
import * as Gate from "./Gate.ts"
import * as GivingUp from "./GivingUp.ts"
import { ReconcilerMetrics } from "./ReconcilerMetrics.ts"
import type { Standing } from "./Standing.ts"

/** `window`: milliseconds since its failure after which a delivery is too old. */
export const make = Effect.fnUntraced(function*(standing: Standing, window: number) {
  const github = yield* GitHubLog
  const store = yield* RecoveryStore
  const metrics = yield* ReconcilerMetrics
  const readiness = yield* Readiness
  const registry = yield* BackendRegistry
  const verifier = yield* WebhookVerifier
  const { recoveryInterval, recoveryPace } = yield* Settings
  const timers = yield* Timers
  const clock = yield* Clock.Clock
  const log = yield* Log
  const giveUp = yield* GivingUp.make

  /** Whether a delivery that comes now would be taken. */
  const isReady = () => !readiness.isDraining() && verifier.isReady() && registry.isKnown()

  /** Why a delivery is not asked for any more. An operator's is left to GitHub, however old it is. */
  const overdue = ({ asks, failedAt, run }: DueRequest): string | undefined =>
    asks >= waits.length
      ? reasons.neverArrived
      : run === undefined && failedAt < clock.currentTimeMillisUnsafe() - window
      ? reasons.tooOld
      : undefined

  /** By GUID: on how many requests in a row GitHub's API has failed. */
  const failures = new Map<string, number>()
  const waitAfterFailure = (guid: string, kind: GitHubFailure) => {
    if (kind !== "failed") return waits[0]!
    const before = failures.get(guid) ?? 0
    failures.set(guid, before + 1)
    return Math.min(waits[0]! * 2 ** before, longestWait)
  }

  /** Makes one request. Says how it ended; undefined: it must not go out any more. */
  const request = Effect.fnUntraced(function*(due: DueRequest, isProbe: boolean) {
    const { asks, attemptId, event, failedAt, guid } = due
    const counted = isProbe ? asks : asks + 1
    if (!(yield* store.asking(guid, isProbe ? waits[0]! : waits[asks]!, counted))) return undefined
    const answer = yield* Effect.catch(github.redeliver(attemptId), (failed) => Effect.succeed({ failed }))
    const fields = { delivery: guid, event, failed: isoTime(failedAt), request: counted, probe: isProbe || undefined }
    if (answer === "accepted" || "refused" in answer) failures.delete(guid)
    if (answer === "accepted") {
      metrics.requested("accepted")
      log.write("info", "GitHub is asked for a missing delivery", fields)
      return "accepted"
    }
    if ("failed" in answer) {
      metrics.requested("failed")
      log.write("warn", "GitHub can't be asked for a missing delivery", { ...fields, error: answer.failed.reason })
      yield* store.asking(guid, waitAfterFailure(guid, answer.failed.kind), asks)
      return "failed"
    }
    metrics.requested("refused")
    log.write("warn", "GitHub refuses a missing delivery", { ...fields, error: answer.refused })
    if (asks > 0) yield* giveUp([{ ...due, reason: `GitHub refuses it: ${answer.refused}` }])
    else yield* store.asking(guid, waits[0]!, 1)
    return "refused"
  })

  /** From here on it is the asking of one reconciler, from the beginning of its lease. */
  return Effect.suspend(() => {
    let gate = Gate.unproven
    let arrivedAt: number | undefined
    let hasLooked = false
    /** The GUIDs of this round of probes. */
    const probed = new Set<string>()

    /** Opens or closes the gate. */
    const pass = Effect.map(store.lastArrivalAt, (at) => {
      gate = hasLooked && at !== arrivedAt ? Gate.proven : Gate.passed(gate, timers.now())
      hasLooked = true
      arrivedAt = at
      if (gate.isOpen) probed.clear()
      standing.heldBack(!gate.isOpen)
    })

    /** Does one thing, and says for how long to wait before the next. */
    const step = Effect.gen(function*() {
      if (!isReady()) return idle
      const all = yield* store.wanted(probed.size + 1)
      if (all.length === 0 && gate.isOpen && gate.unanswered === 0) return idle
      yield* pass
      const due = all.find(({ guid }) => !probed.has(guid)) ?? all[0]
      const leave = Gate.leave(gate, timers.now())
      if (due === undefined || leave === "wait") return idle
      const reason = overdue(due)
      if (reason !== undefined) {
        yield* giveUp([{ ...due, reason }])
        return Duration.zero
      }
      if (leave === "probe") {
        if (probed.has(due.guid)) probed.clear()
        probed.add(due.guid)
      }
      const before = gate
      gate = Gate.asked(gate, timers.now())
      const ended = yield* request(due, leave === "probe")
      if (ended === "accepted") return recoveryPace
      // Nothing comes of it that could be waited for.
      if (before.isOpen) gate = before
      return ended === "failed" ? recoveryInterval : ended === "refused" ? recoveryPace : idle
    })

    return Effect.sleep(settling).pipe(
      Effect.andThen(Effect.forever(
        Effect.flatMap(Effect.catch(step, () => Effect.succeed(afterFailure)), Effect.sleep)
      ))
    )
  })
})

/** Milliseconds from each counted request to the next one. After the last, the delivery is given up. */
const waits = [120_000, 900_000, 7_200_000, 43_200_000, 900_000]

/** The longest wait after failures of GitHub's API, which count against no delivery. */
const longestWait = 3_600_000

/** A process that has just started is not found by everybody yet. */
const settling = "5 seconds"

const idle = Duration.seconds(1)
/** The store has failed. */
const afterFailure = Duration.seconds(5)
