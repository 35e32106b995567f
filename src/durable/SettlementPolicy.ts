/**
 * Decides what an attempt's outcome makes of its row: finished, dead, or due again.
 *
 * **Details**
 *
 * The wait between attempts begins with 1 s and doubles up to 5 min, with jitter. If `Retry-After` asks for more, that
 * counts, up to an hour.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import { Settings } from "../settings/Settings.ts"
import { type AttemptEnd, type AttemptSettlement, longestDelay, youngMillis } from "../store/contract/Row.ts"

/** The row that was attempted. */
export interface AttemptedRow {
  readonly id: string
  readonly key: string
  /** Attempts before this one. */
  readonly tries: number
  /** Its delivery is fresh, so this is the first attempt that there ever was on the row. */
  readonly isFresh: boolean
  /** Milliseconds since the row's delivering began. */
  readonly age: number
}

export class SettlementPolicy extends Context.Service<SettlementPolicy, {
  readonly settlement: (row: AttemptedRow, report: AttemptReport) => AttemptSettlement
}>()("sprayproxy/durable/SettlementPolicy") {
  static readonly layer = Layer.effect(
    SettlementPolicy,
    Effect.gen(function*() {
      const settings = yield* Settings
      const clock = yield* Clock.Clock
      const maxAge = Duration.toMillis(settings.maxDeliveryAge)

      const become = (row: AttemptedRow, { outcome, retryAfter }: AttemptReport): AttemptEnd => {
        if (outcome === "delivered" || outcome === "rejected") return outcome
        const mayHaveArrived = outcome === "timed out" || outcome === "broken off"
        if (row.age > maxAge || (mayHaveArrived && !settings.retryUnknown)) return "dead"
        return { retryIn: Math.min(longestDelay, Math.max(backoff(row.tries), retryAfter ?? 0)) }
      }

      return SettlementPolicy.of({
        settlement: (row, report) => ({
          id: row.id,
          key: row.key,
          isFirst: row.isFresh && row.age < youngMillis - longestWay,
          attempt: {
            at: clock.currentTimeMillisUnsafe(),
            outcome: report.outcome,
            status: report.status,
            latency: report.latency,
            error: report.error,
            answer: report.answer
          },
          become: become(row, report)
        })
      })
    })
  )
}

/** Milliseconds that an outcome may take to the store while the row is still young there. */
const longestWay = 1_000

const firstBackoff = 1_000
const longestBackoff = 300_000

/** Jitter on the upper half, so that rows that failed together are not sent again together. */
const backoff = (tries: number): number =>
  Math.round(Math.min(longestBackoff, firstBackoff * 2 ** Math.min(tries, 20)) * (0.5 + Math.random() / 2))
