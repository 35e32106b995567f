/**
 * Writes a batch to the store, or as much of it as can be written.
 *
 * **Details**
 *
 * A write that is refused for its content says nothing of the store's health. The batch is then split until what can't
 * be written stands alone. Such a delivery goes without the store. Such an outcome loses its texts, or is dropped. All
 * others are written.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Log } from "../../observability/logs/Logging.ts"
import type { Timers } from "../../runtime/Timers.ts"
import type { DeliveryStore } from "../../store/DeliveryStore.ts"
import { StoreUnavailable } from "../../store/contract/Unavailable.ts"
import type { StoreMetrics } from "../StoreMetrics.ts"
import { isEmpty, joined, split, type StoreBatch, withoutTexts } from "./Batch.ts"
import type { StoreHealth } from "./Health.ts"
import type { SettlementQueue } from "./SettlementQueue.ts"

interface BatchWriterOptions {
  readonly store: DeliveryStore["Service"]
  readonly health: StoreHealth
  /** Gets back the outcomes that were not written. */
  readonly settlements: SettlementQueue
  readonly log: Log["Service"]
  readonly metrics: StoreMetrics["Service"]
  readonly timers: Timers["Service"]
}

export const make = ({ health, log, metrics, settlements, store, timers }: BatchWriterOptions) => {
  /** When the transaction that is under way began. Undefined if none is. */
  let since: number | undefined

  const writeOnce = (part: StoreBatch) =>
    Effect.suspend(() => {
      since = timers.now()
      return store.write({
        deliveries: part.deliveries.map((write) => write.begin()),
        settlements: part.settlements
      })
    }).pipe(Effect.timeout(longestWrite))

  const ended = () => {
    metrics.wrote(timers.now() - since!)
    since = undefined
  }

  /** Deals with a single thing that can't be written as it is. Returns what is left of it to be tried. */
  const refused = ({ deliveries: [write], settlements: [settlement] }: StoreBatch, reason: string) => {
    if (write !== undefined) {
      const { guid, requestId } = write.begin()
      const fields = { "request-id": requestId, delivery: guid, reason }
      log.write("error", "a delivery can't be stored, and is forwarded without the store", fields)
      write.refuse("unstorable")
      return []
    }
    const bare = withoutTexts(settlement!)
    if (bare !== undefined) return [{ deliveries: [], settlements: [bare] }]
    metrics.droppedOutcome("unstorable")
    log.write("error", "an outcome can't be stored, and is dropped", { id: settlement!.id, reason })
    return []
  }

  /**
   * False: a part was not written, and the writer should not go on now.
   *
   * This is one generator function, and not a new one for each batch. V8 makes a map for each generator function, and
   * maps are old from the beginning: all that hung on a batch stayed in memory until the next full collection.
   */
  const writeParts = Effect.fnUntraced(function*(batch: StoreBatch, restore: Restore) {
    let parts: ReadonlyArray<StoreBatch> = [batch]
    for (let transactions = 0; transactions < mostTransactions; transactions += 1) {
      const [part, ...others] = parts.filter((one) => !isEmpty(one))
      if (part === undefined) return true
      const written = yield* restore(writeOnce(part)).pipe(Effect.exit)
      ended()
      if (Exit.isSuccess(written)) {
        for (const [at, delivery] of part.deliveries.entries()) delivery.written(written.value[at]!)
        if (part.settlements.length > 0) settlements.written()
        health.wrote()
        parts = others
      } else if (isForContent(written.cause)) {
        parts = [...split(part) ?? refused(part, reasonOf(written.cause)), ...others]
      } else {
        if (!Cause.hasInterruptsOnly(written.cause)) health.failed(reasonOf(written.cause))
        const { deliveries, settlements: outcomes } = joined([part, ...others])
        settlements.putBack(outcomes)
        for (const delivery of deliveries) delivery.failed()
        return false
      }
    }
    const { deliveries, settlements: outcomes } = joined(parts)
    settlements.putBack(outcomes)
    log.write("error", "deliveries are forwarded without the store: too many beside them can't be stored", {
      deliveries: deliveries.length
    })
    for (const delivery of deliveries) delivery.refuse("unstorable")
    return false
  })

  const write = (batch: StoreBatch) => Effect.uninterruptibleMask((restore) => writeParts(batch, restore))

  return { write, since: () => since }
}

/** Makes an effect as interruptible as the caller is. */
type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** A write that takes longer is given up. Nobody knows then whether it happened. */
export const longestWrite = "10 seconds"

/** The most transactions for one batch: enough for a few things that can't be written, not for a batch of them. */
const mostTransactions = 64

export const reasonOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return error instanceof StoreUnavailable ? error.reason : String(error)
}

const isForContent = (cause: Cause.Cause<unknown>): boolean => {
  const error = Cause.squash(cause)
  return error instanceof StoreUnavailable && error.fault === "content"
}
