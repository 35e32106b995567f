/**
 * A pass: one look of the reconciler through GitHub's log, from the end of the pass before to now.
 *
 * **Details**
 *
 * - A full pass reads every attempt. One over failures reads only those that were answered 400 to 599, which are few, so
 *   it may come often. A full pass is also one over failures.
 * - A pass begins some time before the end of the one before, because rows come late. The position is by GitHub's clock:
 *   it is the time of the latest attempt that was seen. It is never ahead of the store's clock. A row dated in the future
 *   would hide all until then, and a store whose clock is behind takes rows for too early that a later pass must see.
 * - A process that had no store for long writes late what became of its deliveries. Of those that a backend lacks, the
 *   pass before has had the rows and could not know. So a full pass begins before the first of them was received.
 * - The position moves only when a pass has come to its end. One that fails or is interrupted is made again. Writing the
 *   same twice changes nothing.
 *
 * **Gotchas**
 *
 * A pass over failures can't see that a later attempt was answered. If that one went without the store, and its record
 * is lost, the delivery is asked for although everybody has it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { isoTime } from "../../domain/Time.ts"
import { Log } from "../../observability/logs/Logging.ts"
import { Settings } from "../../settings/Settings.ts"
import { RecoveryStore } from "../../store/RecoveryStore.ts"
import * as Looking from "../Looking.ts"
import { FrontDoor } from "./FrontDoor.ts"
import * as GivingUp from "./GivingUp.ts"
import { type PassKind, ReconcilerMetrics } from "./ReconcilerMetrics.ts"

export const make = Effect.fnUntraced(function*(looking: Looking.Looking) {
  const store = yield* RecoveryStore
  const metrics = yield* ReconcilerMetrics
  const log = yield* Log
  const { forwardingTimeout } = yield* Settings
  const { decideAll, read } = looking
  const giveUp = yield* GivingUp.make
  const frontDoor = new FrontDoor(overlaps.full)
  // What is left to the next pass has to be in it.
  const least = 2 * Duration.toMillis(forwardingTimeout)

  /** `early`: so many deliveries are left to the next pass. */
  return Effect.fnUntraced(function*(kind: PassKind) {
    const progress = yield* store.progress
    const position = progress[kind]?.scannedTo ?? progress.startedAt
    const lackingSince = kind === "full" ? yield* store.lackingSince : undefined
    const first = Math.min(position, lackingSince ?? position)
    const from = Math.max(progress.startedAt, first - Math.max(overlaps[kind], least))
    const count = frontDoor.begin(position, progress.now)
    const reading = yield* read(
      { which: kind === "full" ? "all" : "failures", from },
      (attempt) => count.add(attempt),
      () => Effect.void
    )
    let missing = 0
    let early = 0
    let givenUp = 0
    yield* decideAll(
      reading,
      { progress, anew: false },
      Effect.fnUntraced(function*(decided) {
        early += decided.filter(({ decision }) => decision === "early").length
        const wanted = decided.filter(({ decision }) => decision === "missing")
        missing += yield* store.want(wanted.map(({ delivery }) => Looking.wantedOf(delivery)), { anew: false })
        givenUp += yield* giveUp(
          decided.flatMap(({ decision, delivery }) =>
            typeof decision === "string" ? [] : [{ ...Looking.wantedOf(delivery), reason: decision.giveUp }]
          )
        )
      })
    )
    const end = Math.max(position, Math.min(reading.latest ?? position, progress.now))
    yield* store.advance(
      kind === "full" ? { full: { scannedTo: end, beganAt: progress.now }, failures: end } : { failures: end }
    )
    if (kind === "full") {
      frontDoor.end(count, end)
      metrics.logged(count.counts)
    }
    if (missing + givenUp > 0) {
      log.write("info", "deliveries are missing", {
        pass: kind,
        attempts: reading.attempts,
        missing,
        "given-up": givenUp,
        since: isoTime(from)
      })
    }
    return { early }
  })
})

/** Milliseconds by which a pass reads what the pass before has read. A full one finds what comes later still. */
const overlaps = { failures: 300_000, full: 1_800_000 }
