/** The messages to a thread that has a SQLite file open, and its replies. */
import type { SqliteOptions } from "./Paths.ts"

export interface SqliteWorkerOptions extends SqliteOptions {
  /** One thread writes, and owns the file. Another reads beside it. */
  readonly writes: boolean
}

/** A statement that is run once for each `width` of values. */
export interface WireStatement {
  /** The number of a text that is kept prepared. Undefined: it is not kept. */
  readonly id: number | undefined
  /** Sent with the first use, and each time if it is not kept. */
  readonly text: string | undefined
  readonly width: number
  readonly values: Array<unknown>
  /** A run that writes no row fails. */
  readonly writesEach: boolean
}

/** Statements for the thread, answered by one `WireReply`. */
export interface WireRequest {
  /** The value of `store_now()` in the statements: a Unix time in milliseconds. */
  readonly now: number
  /**
   * The time after which nobody waits for the answer any more, in milliseconds of the monotonic clock, which all
   * threads share.
   */
  readonly deadline: number
  /** Whether all statements are run or none, in a transaction of their own. */
  readonly isAtomic: boolean
  readonly statements: ReadonlyArray<WireStatement>
  /** The places of the values that are bytes: triples of statement, position in its values, and length. */
  readonly blobs: ReadonlyArray<number>
  readonly bytes: Uint8Array<ArrayBuffer> | undefined
}

/** The result of one statement. */
export interface WireResult {
  readonly columns: ReadonlyArray<string>
  /** All values, row after row. */
  readonly values: ReadonlyArray<unknown>
  /** How many rows the statement has written. */
  readonly changes: number
}

/** Why a request failed. */
export interface WireError {
  readonly message: string
  /** SQLite's extended result code. */
  readonly errcode: number | undefined
  /** Why the request was not done, if SQLite itself reported no error. */
  readonly refusal: string | undefined
  /** Whether it may work the next time, without anybody's doing. */
  readonly isPassing: boolean
  /** The request was too much, and the store itself is well. */
  readonly isExpensive: boolean
  /** The file has to be opened again. */
  readonly isFatal: boolean
}

/** The thread's first message. It says whether the file was opened, and how. */
export interface WireOpening {
  readonly warnings?: ReadonlyArray<string>
  /** The file can't be written to for now. */
  readonly isReadOnly?: boolean
}

export type WireReply =
  | ({ readonly results: ReadonlyArray<WireResult> } & WireOpening)
  | { readonly error: WireError }

/** Milliseconds of a clock that all threads share. */
export const monotonicMillis = (): number => Number(process.hrtime.bigint() / 1_000_000n)
