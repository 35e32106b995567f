/** The row of one delivery at one backend, and the attempts on it. */
import type { Outcome } from "../../domain/Outcome.ts"

/**
 * The states of a row. `cancelled`: the backend was unregistered, or its filter takes the delivery no longer. `dead`:
 * given up, because the delivery is too old or must not be sent again. It is kept and shown.
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

/** The record of what became of a row that this process owns. */
export interface Settlement {
  readonly id: string
  readonly key: string
  /**
   * True: this was the first attempt on a row of a fresh delivery. Its success is written in a shorter way. If the word is
   * wrong, or the row is not young any more, the write takes longer, and its result is the same.
   */
  readonly isFirst?: boolean
  /** Undefined: the row was given back, or cancelled, without an attempt. */
  readonly attempt: StoredAttempt | undefined
  /**
   * `retryIn`: milliseconds from now until the row is due again. A row that somebody else owns by now, or that is no
   * longer pending, takes `delivered` and `rejected` and ignores all else. The attempt is kept in any case. A
   * settlement of a row that is not there is ignored altogether, because the write of its delivery may have failed.
   */
  readonly become: AttemptEnd | "cancelled"
}

/** What an attempt can make of its row. */
export type AttemptEnd = "delivered" | "rejected" | "dead" | { readonly retryIn: number }

export interface AttemptSettlement extends Settlement {
  readonly become: AttemptEnd
}

/** A settlement on its way to the store. */
export interface NumberedSettlement extends Settlement {
  /**
   * The number of the attempt among those of its row. Writing an attempt again under the same number changes nothing.
   */
  readonly n: number
}

/** Milliseconds since a row's delivering began for which it is young: pruning has not seen it yet. */
export const youngMillis = 10_000

/**
 * Milliseconds for which a claimed row is its owner's, unless the store is told otherwise. Durable mode sets more than
 * an attempt may take: its forwarding timeout and a margin. So a lease is not renewed. A row that still has its owner
 * at the end of its lease was forgotten.
 */
export const leaseMillis = 30_000

/** Milliseconds. No row is due further ahead than this or a lease, and `Retry-After` is honoured only up to this. */
export const longestDelay = 3_600_000
