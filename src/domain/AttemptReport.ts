import type { Outcome } from "./Outcome.ts"

/** How an attempt ended. */
export interface AttemptReport {
  readonly outcome: Outcome
  /** The status of the last answer. */
  readonly status: number | undefined
  /** For the logs: an error code, or a few words on what went wrong. */
  readonly error: string | undefined
  /** The first kB of an answer that is not 2xx. */
  readonly answer: string | undefined
  /** Milliseconds from the last request to its status line, or to the end of the attempt if no status line came. */
  readonly latency: number
  /** How many requests were sent, counting those whose sending failed. */
  readonly requests: number
  /** How long a 429 or 503 asked us to wait, in milliseconds from that answer. */
  readonly retryAfter?: number | undefined
}
