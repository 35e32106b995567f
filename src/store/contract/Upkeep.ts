/** What the store promises to those who look after it. */
import type * as Effect from "effect/Effect"
import type { StoreUnavailable } from "./Unavailable.ts"

export interface BackendBacklog {
  readonly key: string
  readonly pending: number
  readonly dead: number
  /** Milliseconds since the delivering of the longest pending row began. */
  readonly oldestAge: number | undefined
}

export interface Retention {
  /** Milliseconds after its last row was settled, a delivery's headers and body go. */
  readonly delivered: number
  /** The same where a row is dead; after this what is left of any finished delivery goes. */
  readonly dead: number
  /** Pending rows whose delivering began longer ago become dead. */
  readonly maxAge: number
}

export interface StoreUpkeep {
  /** Writes and syncs a little, as much as a usual delivery, in a place of its own: whether the store takes writes now. */
  readonly probe: Effect.Effect<void, StoreUnavailable>
  /** Bytes that the store takes up, as the limit counts them. */
  readonly usage: Effect.Effect<number, StoreUnavailable>
  readonly backlogs: Effect.Effect<ReadonlyArray<BackendBacklog>, StoreUnavailable>
  /**
   * Looks at up to `limit` deliveries that may be over some age; true: there may be more. Also corrects due times that
   * lie further ahead than any could (the clock was set back).
   */
  readonly prune: (retention: Retention, limit: number) => Effect.Effect<boolean, StoreUnavailable>
}
