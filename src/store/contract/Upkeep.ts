/** The part of the store's contract for its upkeep. */
import type * as Effect from "effect/Effect"
import type { StoreUnavailable } from "./Unavailable.ts"

/** How many rows of a backend are pending and dead. */
export interface BackendBacklog {
  readonly key: string
  readonly pending: number
  readonly dead: number
  /** Milliseconds since the delivering of the pending row began that has been pending the longest. */
  readonly oldestAge: number | undefined
}

/** How long deliveries are kept. */
export interface Retention {
  /** Milliseconds from a delivery's last settlement until its headers and body are removed. */
  readonly delivered: number
  /** The same if a row of it is dead. After this, the rest of any finished delivery is removed. */
  readonly dead: number
  /** Milliseconds. A pending row whose delivering began longer ago becomes dead. */
  readonly maxAge: number
  /**
   * With recovery: milliseconds from the end of a recovery until it is forgotten, and the same for a delivery that went
   * without the store. The records of finished deliveries are kept for no less. Otherwise GitHub would be asked for
   * them.
   */
  readonly recovery?: number | undefined
}

/** The operations for the store's upkeep. */
export interface StoreUpkeep {
  /**
   * Writes and syncs as much as a usual delivery, in a place of its own. This finds out whether the store takes writes
   * now.
   */
  readonly probe: Effect.Effect<void, StoreUnavailable>
  /** The bytes that the store takes up, as the limit counts them. */
  readonly usage: Effect.Effect<number, StoreUnavailable>
  readonly backlogs: Effect.Effect<ReadonlyArray<BackendBacklog>, StoreUnavailable>
  /**
   * Looks at up to `limit` deliveries that may be older than they should. True: there may be more. It also corrects due
   * times that lie further ahead than any could, because the clock was set back.
   */
  readonly prune: (retention: Retention, limit: number) => Effect.Effect<boolean, StoreUnavailable>
}
