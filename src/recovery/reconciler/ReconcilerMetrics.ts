/**
 * The metrics of the reconciler. They are there only if recovery is on.
 *
 * **Details**
 *
 * The counts of missing deliveries and the times of passes are read from the store, and are the same in every replica.
 * All else is known only to the reconciler, and stays as it is in a replica that is not it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Names from "../../observability/metrics/Names.ts"
import { recordOf, Series } from "../../observability/metrics/Series.ts"
import { type FrontDoorResult, frontDoorResults } from "./FrontDoor.ts"

/** The end of a request for redelivery. `failed`: nobody knows whether GitHub has got it. */
const requestResults = ["accepted", "refused", "failed"] as const
export type RequestResult = typeof requestResults[number]

const passKinds = ["failures", "full"] as const
export type PassKind = typeof passKinds[number]

export class ReconcilerMetrics extends Context.Service<ReconcilerMetrics, {
  readonly logged: (counts: ReadonlyMap<FrontDoorResult, number>) => void
  readonly requested: (result: RequestResult) => void
  readonly recovered: (count: number) => void
  readonly gaveUp: (count: number) => void
  /** `oldestAge` in seconds; 0: nothing is missing. */
  readonly missing: (count: number, oldestAge: number) => void
  /** When the last pass of the kind came to its end, in Unix seconds. */
  readonly passed: (kind: PassKind, at: number) => void
  /** Since when passes fail, in Unix seconds. 0: the last one did not. */
  readonly failingSince: (at: number) => void
  /** Whether the gate is closed. */
  readonly heldBack: (isClosed: boolean) => void
  readonly leading: (isReconciler: boolean) => void
}>()("sprayproxy/recovery/reconciler/ReconcilerMetrics") {
  static readonly layer = Layer.effect(
    ReconcilerMetrics,
    Effect.gen(function*() {
      const series = yield* Series.make
      const logged = recordOf(frontDoorResults, (result) => series.counter(Names.loggedAttempts, { result }))
      const requests = recordOf(requestResults, (result) => series.counter(Names.recoveryRequests, { result }))
      const passes = recordOf(passKinds, (pass) => series.gauge(Names.recoveryLastPass, { pass }))
      const missing = series.gauge(Names.recoveryMissing)
      const oldestAge = series.gauge(Names.recoveryOldestAge)
      const heldBack = series.gauge(Names.recoveryHeldBack)
      const leading = series.gauge(Names.recoveryReconciler)
      return ReconcilerMetrics.of({
        logged: (counts) => counts.forEach((count, result) => logged[result](count)),
        requested: (result) => requests[result](1),
        recovered: series.counter(Names.recoveryRecovered),
        gaveUp: series.counter(Names.recoveryGivenUp),
        missing: (count, age) => {
          missing(count)
          oldestAge(age)
        },
        passed: (kind, at) => passes[kind](at),
        failingSince: series.gauge(Names.recoveryFailingSince),
        heldBack: (isClosed) => heldBack(isClosed ? 1 : 0),
        leading: (isReconciler) => leading(isReconciler ? 1 : 0)
      })
    })
  )
}
