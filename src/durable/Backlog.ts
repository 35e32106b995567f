/**
 * Sends rows that are due: first attempts that could not be made at once, and further attempts.
 *
 * **Details**
 *
 * - `BackendDrain` decides the pace. Behind an open breaker only one delivery goes at a time, as a probe.
 * - The row that has been due the longest goes first. Each fourth claim (each second probe) takes the latest arrival
 *   instead. Otherwise a delivery that came just before its backend recovered would wait for hours of backlog before it.
 *
 * **Gotchas**
 *
 * A claim is not interrupted, and claims for other backends do not wait for it. An interrupted claim may have happened,
 * and its rows would then be nobody's until the lease is over.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import { BackendRegistry } from "../backends/Registry.ts"
import { type Backend } from "../domain/Backend.ts"
import { Readiness } from "../http/Readiness.ts"
import { contained } from "../runtime/Contained.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import { StoreUnavailable } from "../store/contract/Unavailable.ts"
import { type Admission, BackendBreakers } from "./BackendBreakers.ts"
import { BackendDrain, tickMillis } from "./BackendDrain.ts"
import * as RowSending from "./RowSending.ts"
import type { OwnedRow } from "./Settling.ts"
import { StoreWriter } from "./writing/StoreWriter.ts"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const store = yield* DeliveryStore
  const writer = yield* StoreWriter
  const registry = yield* BackendRegistry
  const breakers = yield* BackendBreakers
  const readiness = yield* Readiness
  const timers = yield* Timers
  const send = yield* RowSending.make
  const scope = yield* Effect.scope
  const claiming = yield* Semaphore.make(mostClaiming)
  const drains = new WeakMap<Backend, BackendDrain>()
  const drainOf = (backend: Backend): BackendDrain => {
    let drain = drains.get(backend)
    if (drain === undefined) drains.set(backend, drain = new BackendDrain(settings.backendConcurrency))
    return drain
  }

  const sendDue = Effect.fnUntraced(function*(backend: Backend, drain: BackendDrain) {
    const admission = breakers.admitStored(backend)
    if (admission === undefined) return
    const limit = admission.isProbe ? 1 : drain.allowance()
    const ownedAt = timers.now()
    const claimed = limit === 0 ? [] : yield* store.claim(backend.key, limit, drain.order(admission)).pipe(
      Effect.onError(() => Effect.sync(() => admission.notMade()))
    )
    if (claimed.length === 0) admission.notMade()
    drain.began(claimed.length, limit)
    for (const [at, row] of claimed.entries()) {
      const own = noting(drain, at === 0 ? admission : breakers.admitAnyway(backend))
      yield* Effect.forkIn(
        send({ ...row, isFresh: false, ownedAt, backend, admission: own, cancelled: () => drain.cancelled() }),
        scope
      )
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

const tooLong = new StoreUnavailable({ reason: "it took too long" })

/** The most claims at once, because others want to ask the store too. */
const mostClaiming = 8

const longestAnswer = "10 seconds"

/** The admission of one attempt, of whose end the backend's drain is told too. */
const noting = (drain: BackendDrain, admission: Admission): OwnedRow["admission"] => ({
  ended: (report) => {
    drain.ended(report)
    admission.ended(report)
  },
  notMade: () => {
    drain.notMade()
    admission.notMade()
  }
})
