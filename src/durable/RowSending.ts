/**
 * The sending of one row that was claimed: memory, its content, the attempt, and the ways in which none can be made.
 *
 * **Details**
 *
 * A claimed delivery may not be able to begin, because there is no memory or its content can't be read. Then its row is
 * treated as after an attempt that the backend did not get: it is shown, counted, and tried again later and later. Only
 * if the store itself is away, nothing is counted.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as Addressing from "../addressing/Addressing.ts"
import { type Backend, forwardedTarget } from "../domain/Backend.ts"
import { Body } from "../domain/Body.ts"
import type { Delivery } from "../domain/Delivery.ts"
import type { LedgerEntry } from "../forwarding/Ledger.ts"
import { chargeOf } from "../forwarding/Room.ts"
import { Spray } from "../forwarding/Spray.ts"
import { Readiness } from "../http/Readiness.ts"
import { Log } from "../observability/logs/Logging.ts"
import { MemoryBudget, type Reservation, roomFor } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import type { StoredDelivery } from "../store/contract/Queue.ts"
import { StoreUnavailable } from "../store/contract/Unavailable.ts"
import * as Settling from "./Settling.ts"
import type { OwnedRow } from "./Settling.ts"
import { StoreMetrics } from "./StoreMetrics.ts"

export interface ClaimedRow extends OwnedRow {
  readonly backend: Backend
  readonly bodyLength: number
  /** The row is cancelled, because the backend does not take the delivery any more. */
  readonly cancelled: () => void
}

/** Sends one row, and ends when nothing of it is under way. */
export const make = Effect.gen(function*() {
  const store = yield* DeliveryStore
  const settling = yield* Settling.make
  const budget = yield* MemoryBudget
  const addressing = yield* Addressing.make
  const spray = yield* Spray
  const readiness = yield* Readiness
  const metrics = yield* StoreMetrics
  const log = yield* Log
  const timers = yield* Timers
  const loading = yield* Semaphore.make(mostLoading)

  /** The delivery was surely not sent, and not because of the backend. */
  const notSent = (row: ClaimedRow, error: string, become?: "dead") => {
    const isKept = settling.notSent(row, { ...unsent, error, latency: timers.now() - row.ownedAt }, become)
    log.write("error", "a stored delivery could not be sent", {
      id: row.id,
      backend: row.backend.name,
      outcome: unsent.outcome,
      error,
      tries: row.tries + 1,
      "given-up": isKept ? undefined : true
    })
  }

  const entryOf = (row: ClaimedRow): LedgerEntry => ({
    backends: [row.backend],
    isDurable: true,
    lateReply: "accepted",
    settled: (backend, report) => {
      metrics.sentAgain(backend.name)
      return settling.attempted(row, report)
    },
    abandoned: () => readiness.isDraining() ? settling.giveBack(row, 0) : notSent(row, noMemory)
  })

  /** Whether the store answers. This tells a store that is away from a row that can't be read. */
  const isStoreThere = store.due([]).pipe(Effect.timeout(longestAnswer), Effect.isSuccess)

  const load = (id: string) =>
    store.load(id).pipe(
      loading.withPermit,
      Effect.timeoutOrElse({
        duration: longestLoad,
        orElse: () => Effect.fail(tooLong)
      }),
      Effect.result
    )

  /** Sends one row, with a reservation of its own until nothing of it is under way. */
  const send = (row: ClaimedRow) =>
    Effect.acquireUseRelease(
      Effect.sync(budget.open),
      (reservation) =>
        sendWith(row, reservation).pipe(
          Effect.withErrorReporting({ defectsOnly: true }),
          Effect.catchDefect(() => Effect.sync(() => notSent(row, "what is stored of it can't be read")))
        ),
      (reservation) => Effect.sync(() => reservation.release())
    )

  const sendWith = Effect.fnUntraced(function*(row: ClaimedRow, reservation: Reservation) {
    const { backend, bodyLength, id } = row
    reservation.verified()
    const room = yield* Effect.timeoutOption(
      roomFor(reservation, bodyLength + chargeOf([backend])),
      longestWait
    )
    if (Option.isNone(room)) return notSent(row, noMemory)
    const stored = yield* load(id)
    if (readiness.isDraining()) return settling.giveBack(row, 0)
    if (Result.isFailure(stored)) {
      const { fault, reason } = stored.failure
      if (fault === "away" && !(yield* isStoreThere)) return settling.giveBack(row, storePause)
      return notSent(row, `can't be read from the store: ${reason}`)
    }
    if (stored.success === undefined) return notSent(row, "its body is not kept any more", "dead")
    const delivery = deliveryOf(stored.success)
    // The filter may have been narrowed since, and an operator may have asked for what the backend is not to get.
    const asked = yield* addressing.asked(backend, delivery)
    // A backend that is gone here may have been renewed elsewhere. If not, the store cancels its rows.
    if (asked === "gone") return settling.giveBack(row, 0)
    if (asked === "refuses") {
      settling.cancel(row)
      return row.cancelled()
    }
    reservation.hold(delivery.body.length)
    yield* Effect.callback<void>((resume) =>
      spray.begin(delivery, reservation, entryOf(row), {
        ended: () => resume(Effect.void),
        died: (defect) => resume(Effect.die(defect))
      })
    )
  })

  return send
})

const tooLong = new StoreUnavailable({ reason: "it took too long" })

/** The most bodies that are read from the store at once, for all backends. */
const mostLoading = 16

/**
 * A claimed delivery begins within both times. Together they are less than what its lease has beyond the forwarding
 * timeout.
 */
const longestWait = "7 seconds"
const longestLoad = "5 seconds"

const longestAnswer = "10 seconds"

/** Milliseconds after which a delivery is tried again that could not be read because the store was away. */
const storePause = 5_000

const noMemory = "no memory in time"

const unsent = { outcome: "unreachable", status: undefined, answer: undefined, requests: 0 } as const

/** The delivery as it came, byte for byte. */
const deliveryOf = (stored: StoredDelivery): Delivery => ({
  requestId: stored.requestId,
  guid: stored.guid,
  event: stored.event,
  method: stored.method,
  target: stored.target,
  forwardedTarget: forwardedTarget(stored.target),
  headers: [...stored.headers],
  body: Body.of(stored.body),
  logged: undefined
})
