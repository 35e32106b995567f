import * as Effect from "effect/Effect"
import { isoTime } from "../../domain/Time.ts"
import { Log } from "../../observability/logs/Logging.ts"
import { RecoveryStore } from "../../store/RecoveryStore.ts"
import type { GivenUp } from "../../store/contract/Recovery.ts"
import { ReconcilerMetrics } from "./ReconcilerMetrics.ts"

/** Gives deliveries up, each with a log line. Returns how many had not ended before. */
export const make = Effect.gen(function*() {
  const store = yield* RecoveryStore
  const metrics = yield* ReconcilerMetrics
  const log = yield* Log
  return Effect.fnUntraced(function*(given: ReadonlyArray<GivenUp>) {
    if (given.length === 0) return 0
    const ended = yield* store.giveUp(given)
    metrics.gaveUp(ended)
    if (ended === 0) return 0
    for (const { event, failedAt, guid, reason } of given) {
      log.write("warn", "missing delivery given up", { delivery: guid, event, failed: isoTime(failedAt), reason })
    }
    return ended
  })
})
