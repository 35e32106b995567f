/** What is said to a thread that has a SQLite file open, and what it answers. */
import type { SqliteOptions } from "./Paths.ts"

export interface SqliteWorkerOptions extends SqliteOptions {
  /** One thread writes, and has the file; another reads beside it. */
  readonly writes: boolean
}

/** One statement, run once for each `width` of values. */
export interface WireStatement {
  /** Number of a text that is kept prepared; undefined: it is not kept. */
  readonly id: number | undefined
  /** With its first use, and where it is not kept. */
  readonly text: string | undefined
  readonly width: number
  readonly values: Array<unknown>
}

export interface WireRequest {
  /** What `store_now()` is in its statements: a Unix time in milliseconds. */
  readonly now: number
  /** When nobody waits for it any more, in milliseconds of the monotonic clock, which all threads share. */
  readonly deadline: number
  /** All of it or nothing, in a transaction of its own. */
  readonly isAtomic: boolean
  readonly statements: ReadonlyArray<WireStatement>
  /** Bytes for the values that are bytes: triples of statement, position in its values, and length. */
  readonly blobs: ReadonlyArray<number>
  readonly bytes: Uint8Array<ArrayBuffer> | undefined
}

export interface WireResult {
  readonly columns: ReadonlyArray<string>
  /** Row after row. */
  readonly values: ReadonlyArray<unknown>
  /** Rows that it has written. */
  readonly changes: number
}

export interface WireError {
  readonly message: string
  /** SQLite's extended result code. */
  readonly errcode: number | undefined
  /** Why it was not done, where SQLite had nothing against it. */
  readonly refusal: string | undefined
  /** It may be different the next time, without anybody's doing. */
  readonly isPassing: boolean
  /** It was too much to ask; the store itself is well. */
  readonly isExpensive: boolean
  /** The file has to be opened anew. */
  readonly isFatal: boolean
}

/** The first one says whether the file was opened, and how. */
export interface WireOpening {
  readonly warnings?: ReadonlyArray<string>
  /** It can't be written to for now. */
  readonly isReadOnly?: boolean
}

export type WireReply =
  | ({ readonly results: ReadonlyArray<WireResult> } & WireOpening)
  | { readonly error: WireError }

/** Milliseconds of a clock that all threads share. */
export const monotonicMillis = (): number => Number(process.hrtime.bigint() / 1_000_000n)
