/**
 * Everything in which SQLite and PostgreSQL differ, for those who write statements for the store.
 *
 * **Details**
 *
 * A `Bulk` is a statement over many rows, written once for both as if they were a table. The text of a bulk is made once. What
 * changes fills in places that are kept for it.
 */
import type * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"

export type BulkColumns = Readonly<Record<string, "text" | "bigint" | "double precision" | "bytes">>

type BulkStatement<Columns> = (
  /** The values of a row. */
  row: { readonly [Column in keyof Columns]: Fragment },
  /** Where they are from: `rows` to be joined with, `from` where a statement needs nothing else. */
  source: { readonly rows: Fragment; readonly from: Fragment },
  now: Fragment
) => Statement<any>

/** Bytes that are in the database already, in parts. */
export class StoredParts {
  readonly key: string
  constructor(key: string) {
    this.key = key
  }
}

export type BulkRow = Readonly<
  Record<string, string | number | Uint8Array | ReadonlyArray<Uint8Array> | StoredParts | null | undefined>
>

export interface Bulk {
  readonly columns: BulkColumns
  readonly statement: Statement<any>
  readonly text: string
  readonly params: ReadonlyArray<unknown>
}

export type BulkRows = readonly [bulk: Bulk, rows: ReadonlyArray<BulkRow>]

/** What became of several bulks that were run at once. */
interface RunAtOnce {
  /** The question found something, and nothing was written. */
  readonly isKnown: boolean
  /** Rows that the first bulk has written. */
  readonly first: number
}

/** Bodies that are too large to go whole. */
interface LargeBodies {
  /** A body that is larger goes in parts. */
  readonly wholeBytes: number
  /** In the transaction that writes its delivery. */
  readonly send: (body: ReadonlyArray<Uint8Array>) => Effect.Effect<StoredParts, SqlError>
  /** Before that ends. */
  readonly forget: (parts: StoredParts) => Effect.Effect<unknown, SqlError>
  /** Undefined: it is not there, or not as long. */
  readonly receive: (id: string, length: number) => Effect.Effect<Buffer | undefined, SqlError>
}

export interface StoreDialect {
  readonly kind: "sqlite" | "postgres"
  readonly sql: SqlClient
  /** The store's clock, in milliseconds. */
  readonly now: () => Fragment
  /** The time that lies so many milliseconds back. Where a store stood still for long, that is not counted. */
  readonly ago: (millis: number) => Fragment
  /** Milliseconds since a stored time, counted likewise. */
  readonly age: (since: Fragment) => Fragment
  /** A condition that holds, and ends a statement that has looked through rows for too long. It takes a column of theirs. */
  readonly inTime: (column: Fragment) => Fragment
  /** A statement over many rows. */
  readonly bulk: <Columns extends BulkColumns>(columns: Columns, statement: BulkStatement<Columns>) => Bulk
  readonly run: (bulk: Bulk, rows: ReadonlyArray<BulkRow>) => Effect.Effect<ReadonlyArray<any>, SqlError>
  /**
   * Bulks that are run in one round trip, which is a transaction: all of them, or none if `known` finds any of its rows. Each
   * ends in a `WHERE` that may be added to. The parts have one bulk each, in the order of `bulks`.
   */
  readonly atOnce: (
    known: Bulk,
    bulks: ReadonlyArray<Bulk>
  ) => (parts: ReadonlyArray<BulkRows>) => Effect.Effect<RunAtOnce, SqlError>
  /** Undefined: all go whole. */
  readonly largeBodies: LargeBodies | undefined
  /** Strings as a table `i` with the one column `value`. */
  readonly strings: (values: ReadonlyArray<string>) => Fragment
  /** In a transaction: keeps these rows from being changed by others, who are waited for or passed over. */
  readonly forUpdate: (how: "wait" | "skip", of?: string) => Fragment
  /** Makes SQLite take a partial index where it would read the whole table. */
  readonly using: (index: string) => Fragment
}

/** One for each column. */
export const inColumns = <Columns extends BulkColumns>(columns: Columns, f: (name: string) => Fragment) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, f(name)])) as { [Column in keyof Columns]: Fragment }

/** JSON that either database takes: it has no NUL in texts, and no half of a surrogate pair. */
export const jsonOf = (value: unknown): string => {
  const text = JSON.stringify(value)
  return /\\u(?:0000|d[89a-f])/.test(text)
    ? JSON.stringify(value, (_, part: unknown) => typeof part === "string" ? storable(part) : part)
    : text
}

/** The text as either database can keep it. */
export const storable = (text: string): string => text.toWellFormed().replaceAll("\0", "\uFFFD")
