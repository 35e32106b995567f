/** A delivery for one backend, and the attempts on it. */
import type { Outcome } from "../../domain/Outcome.ts"

/**
 * What has become of a delivery at one backend. `cancelled`: the backend was unregistered. `dead`: too old to be sent
 * again, kept and shown.
 */
export const rowStates = ["pending", "delivered", "rejected", "dead", "cancelled"] as const
export type RowState = typeof rowStates[number]

/** One attempt, as it is kept. */
export interface StoredAttempt {
  /** When it ended. */
  readonly at: number
  readonly outcome: Outcome
  readonly status: number | undefined
  /** Milliseconds. */
  readonly latency: number
  readonly error: string | undefined
  /** The first kB of an answer that is not 2xx. */
  readonly answer: string | undefined
}

/** What became of one row that we own. */
export interface Settlement {
  readonly id: string
  readonly key: string
  /** Undefined: it was given back without an attempt. */
  readonly attempt: StoredAttempt | undefined
  /**
   * `retryIn`: milliseconds from now until the row is due again. A row that somebody else owns by now or that is no longer
   * pending takes `delivered` and `rejected` and ignores all else; the attempt is kept in any case. What is said of a row
   * that is not there is ignored altogether: the write of its delivery may have failed.
   */
  readonly become: "delivered" | "rejected" | "dead" | { readonly retryIn: number }
}

/** A settlement on its way to the store. */
export interface NumberedSettlement extends Settlement {
  /** Tells its attempt from others of its row: one that is written again under the same number changes nothing. */
  readonly n: number
}

/**
 * Milliseconds for which a claimed row is its owner's, where a store is not told otherwise. Durable mode tells it more than
 * an attempt may take: its forwarding timeout and a margin. So a lease is not renewed. A row that is still its owner's at the
 * end was forgotten, and would be for ever.
 */
export const leaseMillis = 30_000

/** No row is due further ahead than this (milliseconds), or than a lease: `Retry-After` is honoured up to it. */
export const longestDelay = 3_600_000
