/**
 * Keeps records of deliveries that go without the store, so that recovery knows which backend lacks them. They are in
 * memory while the store is away, and are written as soon as it is back.
 *
 * **Details**
 *
 * - A record is written when each attempt has ended. A delivery without a GUID has none, because nobody could recognise
 *   it.
 * - The store leaves out the record of a delivery that it holds after all.
 * - An end that the store would keep as dead counts as an end: the delivery may have arrived there, and whoever prefers
 *   a loss to a duplicate does not want it sent again.
 * - Whoever decides by the records waits until they are written. Of other processes nothing is known but that they notice
 *   within seconds that the store is back.
 *
 * **Gotchas**
 *
 * If the process dies before the store is back, its records are lost. GitHub's log alone decides then.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import { Log } from "../../observability/logs/Logging.ts"
import { contained } from "../../runtime/Contained.ts"
import { Timers } from "../../runtime/Timers.ts"
import { RecoveryStore } from "../../store/RecoveryStore.ts"
import type { FallbackEnd } from "../../store/contract/Recovery.ts"
import { StoreUnavailable } from "../../store/contract/Unavailable.ts"
import { bodyHashOf, hookIdOf } from "../Fingerprint.ts"
import { StoreWriter } from "../writing/StoreWriter.ts"
import { FallbackQueue, type WaitingRecord } from "./FallbackQueue.ts"
import { FallbackRecords, notRecorded } from "./FallbackRecords.ts"

export const layer = Layer.effect(
  FallbackRecords,
  Effect.gen(function*() {
    const store = yield* RecoveryStore
    const writer = yield* StoreWriter
    const log = yield* Log
    const timers = yield* Timers
    const queue = new FallbackQueue()
    const wake = yield* Latch.make()
    let dropped = 0

    const add = (record: WaitingRecord) => {
      const before = dropped
      dropped += queue.add(record)
      if (Math.ceil(before / tellEach) < Math.ceil(dropped / tellEach)) {
        log.write("error", "records of deliveries without the store are not kept: too many wait for it", { dropped })
      }
      Latch.openUnsafe(wake)
    }

    /** False: the store did not take them. */
    const write = Effect.fnUntraced(function*(records: ReadonlyArray<WaitingRecord>) {
      const now = timers.now()
      const aged = records.map(({ receivedAt, ...record }) => ({ ...record, age: now - receivedAt }))
      const written = yield* Effect.exit(store.keepFallbacks(aged))
      if (Exit.isSuccess(written)) {
        queue.done(records)
        return true
      }
      const error = Cause.squash(written.cause)
      const isForContent = error instanceof StoreUnavailable && error.fault === "content"
      if (!isForContent || records.length > 1) return isForContent
      queue.done(records)
      log.write("error", "the record of a delivery without the store can't be stored, and is dropped", {
        delivery: records[0]!.guid,
        reason: error.reason
      })
      return true
    })

    /** One by one after a batch that was refused for its content. */
    const writeNext = Effect.gen(function*() {
      const records = queue.next()
      if (!(yield* write(records))) return false
      for (const record of queue.next().filter((one) => records.includes(one))) {
        if (!(yield* write([record]))) return false
      }
      return true
    })

    const run = Effect.gen(function*() {
      if (queue.isEmpty) {
        Latch.closeUnsafe(wake)
        yield* wake.await
      }
      if (!writer.hasCaughtUp() || !(yield* writeNext)) yield* Effect.sleep(pause)
    })

    const flush = Effect.gen(function*() {
      while (!queue.isEmpty && (yield* writeNext)) { /* the next ones */ }
    }).pipe(
      Effect.timeoutOption("5 seconds"),
      Effect.andThen(Effect.sync(() => {
        if (queue.isEmpty) return
        log.write("warn", "the store did not take the records of deliveries without it: recovery may send some again", {
          deliveries: queue.length
        })
      }))
    )

    // In a finalizer no time-out could interrupt anything, so the flush has a fiber of its own.
    yield* Effect.addFinalizer(() => Effect.flatMap(Effect.forkDetach(flush), Fiber.join))
    yield* Effect.forkScoped(Effect.forever(contained(run)))

    const allKept = Effect.gen(function*() {
      const { last } = queue
      const isKept = () =>
        timers.now() - (writer.caughtUpSince() ?? Infinity) >= othersTime &&
        (last === undefined || !queue.isWaiting(last))
      while (!isKept()) yield* Effect.sleep(pause)
    }).pipe(
      Effect.timeoutOrElse({
        duration: longestKeeping,
        orElse: () =>
          Effect.fail(
            new StoreUnavailable({ reason: "records of deliveries that went without the store are not in it yet" })
          )
      })
    )

    return FallbackRecords.of({
      allKept,
      begin: (delivery, backends) => {
        const { guid } = delivery
        if (guid === undefined) return notRecorded
        const print = {
          guid,
          hookId: hookIdOf(delivery),
          bodyHash: bodyHashOf(delivery),
          receivedAt: timers.now()
        }
        const ends = new Map<string, FallbackEnd>()
        const finish = () => add({ ...print, backends: backends.map(({ key }) => ({ key, end: ends.get(key) })) })
        return {
          ended: (key, become) => {
            ends.set(key, typeof become === "string" ? become : undefined)
            if (ends.size === backends.length) finish()
          },
          abandoned: finish
        }
      }
    })
  })
)

/** Time until a store that did not take records is tried again. */
const pause = "1 second"

/** Milliseconds in which other processes notice that the store is back, and write their records. */
const othersTime = 15_000

const longestKeeping = "30 seconds"

/** Dropped records from one log line to the next. */
const tellEach = 1_000
