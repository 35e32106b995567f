/**
 * The port through which the ledger tells what became of a delivery that goes without the store. Without recovery
 * nobody listens.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Backend } from "../../domain/Backend.ts"
import type { Delivery } from "../../domain/Delivery.ts"
import type { AttemptEnd } from "../../store/contract/Row.ts"
import type { StoreUnavailable } from "../../store/contract/Unavailable.ts"

/** The record of one such delivery. */
export interface FallbackRecording {
  /** What would have become of the row of this backend. */
  readonly ended: (key: string, become: AttemptEnd) => void
  /** No attempt was made. */
  readonly abandoned: () => void
}

export class FallbackRecords extends Context.Service<FallbackRecords, {
  /** Holds nothing of the delivery but its fingerprint. */
  readonly begin: (delivery: Delivery, backends: ReadonlyArray<Backend>) => FallbackRecording
  /**
   * Returns when the store has the records of all that went without it here and has ended by now, and has had time to
   * get those of other processes. Fails if that takes too long.
   */
  readonly allKept: Effect.Effect<void, StoreUnavailable>
}>()("sprayproxy/durable/fallback/FallbackRecords") {
  static readonly layerNone = Layer.succeed(
    FallbackRecords,
    FallbackRecords.of({ begin: () => notRecorded, allKept: Effect.void })
  )
}

export const notRecorded: FallbackRecording = { ended: () => {}, abandoned: () => {} }
