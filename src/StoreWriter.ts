/**
 * Everything that is written to the store while deliveries pass, in few transactions: those that come together share one,
 * and with it the sync of the disk.
 *
 * **Details**
 *
 * - One transaction at a time. What comes meanwhile goes with the next; what comes to an idle store waits 2 ms for more.
 * - A delivery is not waited for longer than 2 s. Once a write has failed or is that late, the store counts as down: all that
 *   comes is refused at once until a write succeeds, which is tried each second.
 * - Settlements are kept until the store takes them. Nobody waits for them.
 *
 * **Gotchas**
 *
 * What was refused because it was late, or because its write failed, may be in the store nevertheless.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { contained } from "./Defects.ts"
import { DeliveryStore, type NewDelivery, type Recorded, type Settlement, StoreUnavailable } from "./DeliveryStore.ts"
import { Log } from "./Logging.ts"
import { Settings } from "./Settings.ts"
import { type StoreFallback, StoreMetrics } from "./StoreMetrics.ts"
import { type CancelTimer, Timers } from "./Timers.ts"

/** A delivery that is to be written. One of `written` and `refused` is called, once. */
export interface WriteRequest {
  /** Bytes of its body. */
  readonly size: number
  /** Called when its transaction begins. */
  readonly delivery: () => NewDelivery
  /** On disk. */
  readonly written: (recorded: Recorded) => void
  /** It has to go without the store. */
  readonly refused: (reason: StoreFallback) => void
  /** Called at most once after `refused`: it is on disk after all, or (undefined) nobody knows. */
  readonly writtenLate: (recorded: Recorded | undefined) => void
}

export class StoreWriter extends Context.Service<StoreWriter, {
  readonly write: (request: WriteRequest) => void
  readonly settle: (settlement: Settlement) => void
  readonly isUp: () => boolean
}>()("sprayproxy/StoreWriter") {
  static readonly layer = Layer.effect(
    StoreWriter,
    Effect.gen(function*() {
      const store = yield* DeliveryStore
      const settings = yield* Settings
      const timers = yield* Timers
      const log = yield* Log
      const metrics = yield* StoreMetrics
      const writes: Array<Waiting> = []
      const settlements: Array<Settlement> = []
      const wake = yield* Latch.make()
      let up = true
      let busy = false
      /** The last probe's result. */
      let answers = true
      let used = 0
      let dropped = 0
      /** Halved by each failure: one outcome that can't be written must not keep out all others. */
      let mostSettled = settledAtOnce

      const isUp = () => up

      const setUp = (now: boolean, reason: string) => {
        if (up === now) return
        up = now
        metrics.up(now)
        Latch.openUnsafe(wake)
        if (now) log.write("info", "the store is used again", { settlements: settlements.length })
        else log.write("error", "the store is down: deliveries are forwarded without it", { reason })
        if (now || writes.length === 0) return
        for (const waiting of writes.splice(0)) waiting.failed()
      }

      const settle = (settlement: Settlement) => {
        if (settlements.length >= mostSettlements) {
          settlements.shift()
          dropped += 1
          if (dropped % 1_000 === 1) {
            log.write("error", "outcomes are not kept: too many wait for the store", { dropped })
          }
        }
        settlements.push(settlement)
        Latch.openUnsafe(wake)
      }

      const takeBatch = () => {
        let bytes = 0
        let count = 0
        for (; count < Math.min(writes.length, mostDeliveries); count += 1) {
          bytes += writes[count]!.size
          if (count > 0 && bytes > mostBytes) break
        }
        return { deliveries: writes.splice(0, count), outcomes: settlements.splice(0, mostSettled) }
      }

      /** False: the store did not take it. */
      const writeBatch = Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const { deliveries, outcomes } = takeBatch()
          if (deliveries.length === 0 && outcomes.length === 0) return true
          const startedAt = timers.now()
          busy = true
          const written = yield* restore(
            Effect.suspend(() =>
              store.write({ deliveries: deliveries.map((waiting) => waiting.begin()), settlements: outcomes })
            ).pipe(Effect.timeout(longestWrite))
          ).pipe(Effect.exit)
          busy = false
          metrics.wrote(timers.now() - startedAt)
          if (Exit.isSuccess(written)) {
            for (const [at, waiting] of deliveries.entries()) {
              used += waiting.size
              waiting.written(written.value[at]!)
            }
            mostSettled = Math.min(settledAtOnce, 2 * mostSettled)
            setUp(true, "")
            return true
          }
          if (!up && answers && outcomes.length === 1 && !Cause.hasInterruptsOnly(written.cause)) {
            log.write("error", "an outcome can't be written, and is dropped", { reason: reasonOf(written.cause) })
          } else settlements.unshift(...outcomes)
          mostSettled = Math.max(1, Math.floor(mostSettled / 2))
          if (!Cause.hasInterruptsOnly(written.cause)) setUp(false, reasonOf(written.cause))
          for (const waiting of deliveries) waiting.failed()
          return false
        })
      )

      /** The cheapest question. */
      const ping = Effect.timeout(store.due([]), longestWrite)

      /** Whether the store, which was down, answers again. */
      const probe = Effect.gen(function*() {
        yield* Effect.sleep(probeInterval)
        answers = Exit.isSuccess(yield* ping.pipe(Effect.exit))
        if (answers && settlements.length === 0) setUp(true, "")
      })

      const run = Effect.gen(function*() {
        if (!isUp()) {
          yield* probe
          if (answers) yield* writeBatch
          return
        }
        if (writes.length === 0 && settlements.length === 0) {
          Latch.closeUnsafe(wake)
          yield* wake.await
          yield* Effect.sleep(linger)
          if (!isUp()) return
        }
        yield* writeBatch
      })

      /** A store that has grown so large that it can't be counted in time is not down. */
      const measure = Effect.gen(function*() {
        yield* Effect.timeout(store.usage, longestWrite).pipe(
          Effect.match({
            onFailure: (error) => {
              if (up) log.write("warn", "the store's size is not known", { reason: reasonOf(Cause.fail(error)) })
            },
            onSuccess: (bytes) => {
              used = bytes
              metrics.used(bytes)
            }
          })
        )
        yield* ping
      }).pipe(
        Effect.catchCause((cause) => Effect.sync(() => setUp(false, reasonOf(cause)))),
        Effect.repeat(Schedule.spaced(usageInterval))
      )

      // What was attempted is said before what was not is given back.
      const flush = Effect.gen(function*() {
        for (let written = true; written && settlements.length + writes.length > 0;) written = yield* writeBatch
        yield* store.release
      }).pipe(
        Effect.timeout("5 seconds"),
        Effect.catchCause(() =>
          Effect.sync(() =>
            log.write("warn", "the store did not take the last outcomes: some deliveries will be sent again")
          )
        )
      )

      metrics.up(true)
      metrics.limit(settings.storeLimit)
      // In a fiber of its own: in a finalizer no time-out could interrupt anything.
      yield* Effect.addFinalizer(() => Effect.flatMap(Effect.forkDetach(flush), Fiber.join))
      yield* Effect.forkScoped(Effect.forever(contained(run)))
      yield* Effect.forkScoped(measure)
      return StoreWriter.of({
        write: (request) => {
          const waiting = new Waiting(request)
          const refuse = (reason: StoreFallback) => {
            metrics.fellBack(reason)
            waiting.refuse(reason)
          }
          if (!up) return refuse("unavailable")
          if (used + request.size >= settings.storeLimit) return refuse("full")
          waiting.onRefused(refuse)
          waiting.cancelPatience = timers.after(patience, () => {
            const at = writes.indexOf(waiting)
            if (at >= 0) writes.splice(at, 1)
            refuse("timeout")
            // Whoever comes next should not have to wait for nothing.
            if (busy) setUp(false, `no answer in ${patience} ms`)
          })
          writes.push(waiting)
          Latch.openUnsafe(wake)
        },
        settle,
        isUp
      })
    })
  )
}

/** Milliseconds for which a delivery waits to be on disk. */
const patience = 2_000

/** Beyond this a write is given up; whether it happened is open. */
const longestWrite = "10 seconds"

/** A store that stores at all is worth that much latency: a sync is shared by what comes within it. */
const linger = "2 millis"

const probeInterval = "1 second"
const usageInterval = "10 seconds"

/** One transaction holds that much at most: its bodies are copied while it is under way. */
const mostDeliveries = 256
const mostBytes = 8 * 1024 * 1024
const settledAtOnce = 1_000

/** Outcomes that may wait for a store that is down; each is some hundred bytes. */
const mostSettlements = 20_000

const reasonOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return error instanceof StoreUnavailable ? error.reason : String(error)
}

/** A delivery between `write` and its end. */
class Waiting {
  readonly size: number
  cancelPatience: CancelTimer = () => {}
  readonly #request: WriteRequest
  #refuse: (reason: StoreFallback) => void = () => {}
  #begun = false
  #refused = false

  constructor(request: WriteRequest) {
    this.size = request.size
    this.#request = request
  }

  onRefused(refuse: (reason: StoreFallback) => void): void {
    this.#refuse = refuse
  }

  begin(): NewDelivery {
    this.#begun = true
    return this.#request.delivery()
  }

  written(recorded: Recorded): void {
    this.cancelPatience()
    if (this.#refused) this.#request.writtenLate(recorded)
    else this.#request.written(recorded)
  }

  /** Its write has failed, or will not be tried. */
  failed(): void {
    if (!this.#refused) this.#refuse("unavailable")
    if (this.#begun) this.#request.writtenLate(undefined)
  }

  refuse(reason: StoreFallback): void {
    this.cancelPatience()
    this.#refused = true
    this.#request.refused(reason)
  }
}
