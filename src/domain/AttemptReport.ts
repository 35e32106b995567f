import type { Outcome } from "./Outcome.ts"

/** How an attempt ended. */
export interface AttemptReport {
  readonly outcome: Outcome
  /** The status of the last answer. */
  readonly status: number | undefined
  /** What went wrong, for the logs: an error code or a few words. */
  readonly error: string | undefined
  /** The first kB of an answer that is not 2xx. */
  readonly answer: string | undefined
  /** Milliseconds from the last request to its status line, or to the end of the attempt where none came. */
  readonly latency: number
  /** Requests that were sent, or tried to be. */
  readonly requests: number
  /** What a 429 or 503 asked for, in milliseconds from its answer. */
  readonly retryAfter?: number | undefined
}
