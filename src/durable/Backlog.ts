/**
 * Sends rows that are due: first attempts that could not be made at once, and further attempts.
 *
 * **Details**
 *
 * - `BackendDrain` decides the pace. Behind an open breaker only one delivery goes at a time, as a probe.
 * - The row that has been due the longest goes first. Each fourth claim (each second probe) takes the latest arrival
 *   instead. Otherwise a delivery that came just before its backend recovered would wait behind hours of backlog.
 * - A claimed delivery may not be able to begin, because there is no memory or its content can't be read. Then its row
 *   is treated as after an attempt that the backend did not get: it is shown, counted, and tried again later and later.
 *   Only if the store itself is away, nothing is counted.
 *
 * **Gotchas**
 *
 * A claim is not interrupted, and claims for other backends do not wait for it. An interrupted claim may have happened,
 * and its rows would then be nobody's until the lease is over.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import { BackendRegistry } from "../backends/Registry.ts"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import { type Backend, forwardedTarget } from "../domain/Backend.ts"
import { Body } from "../domain/Body.ts"
import type { Delivery } from "../domain/Delivery.ts"
import type { LedgerEntry } from "../forwarding/Ledger.ts"
import { chargeOf } from "../forwarding/Room.ts"
import { Spray } from "../forwarding/Spray.ts"
import { Readiness } from "../http/Readiness.ts"
import { Log } from "../observability/logs/Logging.ts"
import { contained } from "../runtime/Contained.ts"
import { MemoryBudget, type Reservation, roomFor } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import type { Claimed, StoredDelivery } from "../store/contract/Queue.ts"
import type { Settlement } from "../store/contract/Row.ts"
import { StoreUnavailable } from "../store/contract/Unavailable.ts"
import { type Admission, BackendBreakers } from "./BackendBreakers.ts"
import { BackendDrain, tickMillis } from "./BackendDrain.ts"
import { SettlementPolicy } from "./SettlementPolicy.ts"
import { StoreMetrics } from "./StoreMetrics.ts"
import { StoreWriter } from "./StoreWriter.ts"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const store = yield* DeliveryStore
  const writer = yield* StoreWriter
  const registry = yield* BackendRegistry
  const breakers = yield* BackendBreakers
  const budget = yield* MemoryBudget
  const spray = yield* Spray
  const readiness = yield* Readiness
  const policy = yield* SettlementPolicy
  const metrics = yield* StoreMetrics
  const log = yield* Log
  const timers = yield* Timers
  const scope = yield* Effect.scope
  const loading = yield* Semaphore.make(mostLoading)
  const claiming = yield* Semaphore.make(mostClaiming)
  const drains = new WeakMap<Backend, BackendDrain>()
  const drainOf = (backend: Backend): BackendDrain => {
    let drain = drains.get(backend)
    if (drain === undefined) drains.set(backend, drain = new BackendDrain(settings.backendConcurrency))
    return drain
  }

  /** Whether the row will be attempted again or is finished, other than as dead. */
  const settle = (row: Row, report: AttemptReport, become?: Settlement["become"]): boolean => {
    const { id, key, tries } = row.claimed
    const age = row.claimed.age + timers.now() - row.claimedAt
    const settlement = policy.settlement({ id, key, tries, isFresh: false, age }, report)
    const final = become ?? settlement.become
    writer.settle({ ...settlement, become: final })
    return final !== "dead"
  }

  const giveBack = ({ admission, backend, claimed: { id, key } }: Row, retryIn: number) => {
    drainOf(backend).notMade()
    admission.notMade()
    writer.settle({ id, key, attempt: undefined, become: { retryIn } })
  }

  /** The delivery was surely not sent, and not because of the backend. */
  const notSent = (row: Row, error: string, become?: "dead") => {
    const { admission, backend, claimed, claimedAt } = row
    drainOf(backend).notMade()
    admission.notMade()
    const latency = timers.now() - claimedAt
    const isKept = settle(row, { ...unsent, error, latency }, become)
    log.write("error", "a stored delivery could not be sent", {
      id: claimed.id,
      backend: backend.name,
      outcome: unsent.outcome,
      error,
      tries: claimed.tries + 1,
      "given-up": isKept ? undefined : true
    })
  }

  const entryOf = (row: Row): LedgerEntry => ({
    backends: [row.backend],
    isDurable: true,
    lateReply: "accepted",
    settled: (backend, report) => {
      drainOf(backend).ended(report)
      row.admission.ended(report)
      metrics.sentAgain(backend.name)
      return settle(row, report)
    },
    abandoned: () => readiness.isDraining() ? giveBack(row, 0) : notSent(row, noMemory)
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
  const send = (row: Row) =>
    Effect.acquireUseRelease(
      Effect.sync(budget.open),
      (reservation) =>
        sendWith(row, reservation).pipe(
          Effect.withErrorReporting({ defectsOnly: true }),
          Effect.catchDefect(() => Effect.sync(() => notSent(row, "what is stored of it can't be read")))
        ),
      (reservation) => Effect.sync(() => reservation.release())
    )

  const sendWith = Effect.fnUntraced(function*(row: Row, reservation: Reservation) {
    const { backend, claimed } = row
    reservation.verified()
    const room = yield* Effect.timeoutOption(
      roomFor(reservation, claimed.bodyLength + chargeOf([backend])),
      longestWait
    )
    if (Option.isNone(room)) return notSent(row, noMemory)
    const stored = yield* load(claimed.id)
    if (readiness.isDraining()) return giveBack(row, 0)
    if (Result.isFailure(stored)) {
      const { fault, reason } = stored.failure
      if (fault === "away" && !(yield* isStoreThere)) return giveBack(row, storePause)
      return notSent(row, `can't be read from the store: ${reason}`)
    }
    if (stored.success === undefined) return notSent(row, "its body is not kept any more", "dead")
    const delivery = deliveryOf(stored.success)
    reservation.hold(delivery.body.length)
    yield* Effect.callback<void>((resume) =>
      spray.begin(delivery, reservation, entryOf(row), () => resume(Effect.void))
    )
  })

  const sendDue = Effect.fnUntraced(function*(backend: Backend, drain: BackendDrain) {
    const admission = breakers.admitStored(backend)
    if (admission === undefined) return
    const limit = admission.isProbe ? 1 : drain.allowance()
    const claimedAt = timers.now()
    const claimed = limit === 0 ? [] : yield* store.claim(backend.key, limit, drain.order(admission)).pipe(
      Effect.onError(() => Effect.sync(() => admission.notMade()))
    )
    if (claimed.length === 0) admission.notMade()
    drain.began(claimed.length, limit)
    for (const [at, one] of claimed.entries()) {
      const row = { backend, claimed: one, claimedAt, admission: at === 0 ? admission : breakers.admitAnyway(backend) }
      yield* Effect.forkIn(send(row), scope)
    }
  })

  /** Runs by itself, because a claim may take its time, and fail. */
  const beginSending = (backend: Backend, drain: BackendDrain) => {
    drain.isClaiming = true
    return sendDue(backend, drain).pipe(
      claiming.withPermit,
      Effect.ensuring(Effect.sync(() => drain.isClaiming = false)),
      contained,
      Effect.forkIn(scope)
    )
  }

  const tick = Effect.gen(function*() {
    if (readiness.isDraining() || !writer.hasCaughtUp()) return
    const ready = registry.snapshot().flatMap((backend) => {
      const drain = drainOf(backend)
      drain.tick(breakers.takeHeld(backend))
      const mayBegin = !drain.isClaiming && drain.allowance() > 0 && breakers.mayAdmitStored(backend)
      return mayBegin ? [{ backend, drain }] : []
    })
    if (ready.length === 0) return
    const due = new Set(
      yield* Effect.timeoutOrElse(store.due(ready.map(({ backend }) => backend.key)), {
        duration: longestAnswer,
        orElse: () => Effect.fail(tooLong)
      })
    )
    for (const { backend, drain } of ready) {
      if (due.has(backend.key)) yield* beginSending(backend, drain)
      else drain.nothingDue()
    }
  }).pipe(contained)

  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(tickMillis), tick)))
}))

/** A row that was claimed, until its attempt ends. */
interface Row {
  readonly backend: Backend
  readonly claimed: Claimed
  /** A time of `Timers.now`. */
  readonly claimedAt: number
  readonly admission: Admission
}

const tooLong = new StoreUnavailable({ reason: "it took too long" })

/** The most bodies that are read from the store at once, for all backends. */
const mostLoading = 16

/** The most claims at once, because others want to ask the store too. */
const mostClaiming = 8

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
