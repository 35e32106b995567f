/**
 * Writes to the store while deliveries pass, in few transactions. Deliveries and outcomes that come together share a
 * transaction, and with it the sync of the disk.
 *
 * **Details**
 *
 * - There is one transaction at a time. What comes meanwhile goes with the next one, or a little later (`WriteQueue`).
 * - A delivery waits for at most 2 s. Once a write has failed or is that late, the store counts as down. Deliveries are
 *   then refused at once until the store takes a write, which is tried each second.
 * - Settlements are kept until the store takes them. Nobody waits for them.
 *
 * **Gotchas**
 *
 * A delivery that was refused because its write was late or failed may be in the store nevertheless.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { Log } from "../../observability/logs/Logging.ts"
import { contained } from "../../runtime/Contained.ts"
import { Timers } from "../../runtime/Timers.ts"
import { Settings } from "../../settings/Settings.ts"
import { DeliveryStore } from "../../store/DeliveryStore.ts"
import type { Settlement } from "../../store/contract/Row.ts"
import { StoreMetrics } from "../StoreMetrics.ts"
import { afterOutage } from "./Batch.ts"
import * as BatchWriter from "./BatchWriter.ts"
import { StoreCapacity } from "./Capacity.ts"
import { DeliveryWrite, type WriteRequest } from "./DeliveryWrite.ts"
import { StoreHealth } from "./Health.ts"
import { WriteQueue } from "./WriteQueue.ts"

export class StoreWriter extends Context.Service<StoreWriter, {
  readonly write: (request: WriteRequest) => void
  readonly settle: (settlement: Settlement) => void
  /**
   * Whether the store is up and has the outcomes from the time when it was not. Before that, a row whose lease has
   * ended may have been delivered.
   */
  readonly hasCaughtUp: () => boolean
  /** Since when, on `Timers.now`. Undefined: it has not. -Infinity: it was never down. */
  readonly caughtUpSince: () => number | undefined
}>()("sprayproxy/durable/writing/StoreWriter") {
  static readonly layer = Layer.effect(
    StoreWriter,
    Effect.gen(function*() {
      const store = yield* DeliveryStore
      const settings = yield* Settings
      const timers = yield* Timers
      const log = yield* Log
      const metrics = yield* StoreMetrics
      const queue = new WriteQueue(timers.now)
      const { settlements } = queue
      const capacity = new StoreCapacity(settings.storeLimit)
      const wake = yield* Latch.make()
      let dropped = 0
      /** How many of the outcomes that waited when the store came up are still waiting. */
      let leftOver = 0
      let caughtUpAt = -Infinity

      const health = new StoreHealth({
        changed: (isUp) => {
          Latch.openUnsafe(wake)
          if (isUp) leftOver = settlements.length
          caughtUpAt = timers.now()
          if (!isUp) { for (const write of queue.removeDeliveries()) write.failed() }
        },
        told: (isUp, reason) => {
          metrics.up(isUp)
          if (isUp) log.write("info", "the store is used again", { settlements: settlements.length })
          else log.write("error", "the store is down: deliveries are forwarded without it", { reason })
        }
      })
      const observer = { stored: (size: number) => capacity.wrote(size), refused: metrics.fellBack }
      const writer = BatchWriter.make({ store, health, settlements, log, metrics, timers })

      const writeNext = Effect.suspend(() => {
        const wasUp = health.isUp
        const taken = queue.take()
        const batch = wasUp && leftOver === 0 ? taken : afterOutage(taken)
        return Effect.tap(writer.write(batch), (written) =>
          Effect.sync(() => {
            if (!written || !wasUp || leftOver === 0) return
            leftOver = Math.max(0, leftOver - batch.settlements.length)
            caughtUpAt = timers.now()
          }))
      })

      /** Returns when the next batch should go, or the store is down. */
      const nextDue = Effect.gen(function*() {
        while (health.isUp) {
          const { wait } = queue
          if (wait <= 0) return
          Latch.closeUnsafe(wake)
          const cancel = wait === Infinity ? undefined : timers.after(wait, () => Latch.openUnsafe(wake))
          yield* wake.await
          cancel?.()
        }
      })

      const probe = Effect.exit(Effect.timeout(store.probe, BatchWriter.longestWrite))

      const run = Effect.gen(function*() {
        if (!health.isUp) {
          yield* Effect.sleep(probeInterval)
          if (Exit.isFailure(yield* probe)) return
          if (settlements.length === 0) health.probed()
          else yield* writeNext
          return
        }
        yield* nextDue
        if (health.isUp) yield* writeNext
      })

      /** Finds out whether the store is still there when nobody writes to it. */
      const watch = Effect.gen(function*() {
        if (!health.isUp) return
        const probed = yield* probe
        if (Exit.isFailure(probed)) health.probeFailed(BatchWriter.reasonOf(probed.cause))
      })

      /** A store that can't be measured, because it has grown so large, is not down. */
      const measure = Effect.timeout(store.usage, BatchWriter.longestWrite).pipe(
        Effect.match({
          onFailure: (error) => {
            if (!health.isUp) return
            log.write("warn", "the store's size is not known", { reason: BatchWriter.reasonOf(Cause.fail(error)) })
          },
          onSuccess: (bytes) => {
            capacity.measured(bytes)
            metrics.used(bytes)
          }
        })
      )

      const tellLeft = () =>
        log.write("warn", "the store did not take the last outcomes: some deliveries will be sent again", {
          outcomes: settlements.length
        })

      // The outcomes of attempts are written first. Only then the rows that were not attempted are given back.
      const flush = Effect.gen(function*() {
        for (let written = true; written && !queue.isEmpty;) written = yield* writeNext
        yield* store.release
        if (settlements.length > 0) tellLeft()
      }).pipe(
        Effect.timeout("5 seconds"),
        Effect.catchCause(() => Effect.sync(tellLeft))
      )

      const hasCaughtUp = () => health.isUp && leftOver === 0

      metrics.up(true)
      metrics.limit(capacity.limit)
      // The flush has a fiber of its own. In a finalizer no time-out could interrupt anything.
      yield* Effect.addFinalizer(() => Effect.flatMap(Effect.forkDetach(flush), Fiber.join))
      yield* Effect.forkScoped(Effect.forever(contained(run)))
      yield* Effect.forkScoped(contained(watch).pipe(Effect.repeat(Schedule.spaced(watchInterval))))
      yield* Effect.forkScoped(contained(measure).pipe(Effect.repeat(Schedule.spaced(usageInterval))))
      return StoreWriter.of({
        write: (request) => {
          const write = new DeliveryWrite(request, observer)
          if (!health.isUp) return write.refuse("unavailable")
          if (!capacity.hasRoomFor(request.size)) return write.refuse("full")
          write.cancelPatience = timers.after(patience, () => {
            queue.remove(write)
            write.refuse("timeout")
            // The store counts as down then, so that the next deliveries don't wait in vain.
            const since = writer.since()
            if (since !== undefined && timers.now() - since > patience / 2) {
              health.failed(`no answer in ${patience} ms`)
            }
          })
          if (queue.addDelivery(write)) Latch.openUnsafe(wake)
        },
        settle: (settlement) => {
          if (!settlements.add(settlement)) {
            metrics.droppedOutcome("overflow")
            dropped += 1
            if (dropped % 1_000 === 1) {
              log.write("error", "outcomes are not kept: too many wait for the store", { dropped })
            }
          }
          if (queue.addedOutcome()) Latch.openUnsafe(wake)
        },
        hasCaughtUp,
        caughtUpSince: () => hasCaughtUp() ? caughtUpAt : undefined
      })
    })
  )
}

/** Milliseconds that a delivery waits to be on disk. */
const patience = 2_000

const probeInterval = "1 second"
const watchInterval = "30 seconds"
const usageInterval = "10 seconds"
