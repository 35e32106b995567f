/**
 * Everything in which SQLite and PostgreSQL differ, for the authors of the store's statements.
 *
 * **Details**
 *
 * A `Bulk` is a statement over many rows, written once for both databases as if the rows were a table. Its text is made
 * once, and has places for the values that change.
 */
import type * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"

/** The columns of a bulk's rows, with their types. */
export type BulkColumns = Readonly<Record<string, "text" | "bigint" | "double precision" | "bytes">>

type BulkStatement<Columns> = (
  /** The values of a row. */
  row: { readonly [Column in keyof Columns]: Fragment },
  /** Where the values are from: `rows` to be joined with, `from` for a statement that needs nothing else. */
  source: { readonly rows: Fragment; readonly from: Fragment },
  now: Fragment
) => Statement<any>

/** Bytes that are already in the database, in parts. */
export class StoredParts {
  readonly key: string
  constructor(key: string) {
    this.key = key
  }
}

/** One row of a bulk. Bytes may be in several chunks, or already in the database. */
export type BulkRow = Readonly<
  Record<string, string | number | Uint8Array | ReadonlyArray<Uint8Array> | StoredParts | null | undefined>
>

/** A statement over many rows, with its text made. */
export interface Bulk {
  readonly columns: BulkColumns
  readonly statement: Statement<any>
  readonly text: string
  readonly params: ReadonlyArray<unknown>
}

/** A bulk with the rows that it is run over. */
export type BulkRows = readonly [bulk: Bulk, rows: ReadonlyArray<BulkRow>]

/** Handles bodies that are too large to go whole. */
interface LargeBodies {
  /** The most bytes of a body that goes whole. A larger one goes in parts. */
  readonly wholeBytes: number
  /** Sends a body in parts, in the transaction that writes its delivery. */
  readonly send: (body: ReadonlyArray<Uint8Array>) => Effect.Effect<StoredParts, SqlError>
  /** Removes the parts, before that transaction ends. */
  readonly forget: (parts: StoredParts) => Effect.Effect<unknown, SqlError>
  /** Reads a body. Undefined: it is not there, or has another length. */
  readonly receive: (id: string, length: number) => Effect.Effect<Buffer | undefined, SqlError>
}

/** The statements of one database, as far as the two differ. */
export interface StoreDialect {
  readonly kind: "sqlite" | "postgres"
  readonly sql: SqlClient
  /** The store's clock, in milliseconds. */
  readonly now: () => Fragment
  /** The time so many milliseconds ago. A long time in which the store stood still is not counted. */
  readonly ago: (millis: number) => Fragment
  /** Milliseconds since a stored time, counted in the same way. */
  readonly age: (since: Fragment) => Fragment
  /**
   * A condition that is always true, and ends a statement that has looked through rows for too long. It takes a column
   * of those rows.
   */
  readonly inTime: (column: Fragment) => Fragment
  /** Makes a statement over many rows. */
  readonly bulk: <Columns extends BulkColumns>(columns: Columns, statement: BulkStatement<Columns>) => Bulk
  readonly run: (bulk: Bulk, rows: ReadonlyArray<BulkRow>) => Effect.Effect<ReadonlyArray<any>, SqlError>
  /**
   * Runs bulks in one round trip, which is a transaction. Either all of them are run, or none (false): if `known` finds any
   * of its rows, or the first bulk does not write each of its own. Each ends in a `WHERE` that may be added to. The parts
   * have one bulk each, in the order of `bulks`. The keys may tell which rows are known. If they don't tell all of it,
   * `whole` is one of the bulks that does not write rows which `known` finds.
   */
  readonly atOnce: (
    known: Bulk,
    bulks: ReadonlyArray<Bulk>,
    whole?: Bulk
  ) => (parts: ReadonlyArray<BulkRows>) => Effect.Effect<boolean, SqlError>
  /** Undefined: all bodies go whole. */
  readonly largeBodies: LargeBodies | undefined
  /** Strings as a table `i` with the one column `value`. */
  readonly strings: (values: ReadonlyArray<string>) => Fragment
  /** In a transaction, keeps others from changing these rows. Rows that others hold are waited for or skipped. */
  readonly forUpdate: (how: "wait" | "skip", of?: string) => Fragment
  /** Makes SQLite use a partial index for which it would read the whole table instead. */
  readonly using: (index: string) => Fragment
}

/** One fragment for each column. */
export const inColumns = <Columns extends BulkColumns>(columns: Columns, f: (name: string) => Fragment) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, f(name)])) as { [Column in keyof Columns]: Fragment }

/** JSON that both databases take: its texts have no NUL and no half of a surrogate pair. */
export const jsonOf = (value: unknown): string => {
  const text = JSON.stringify(value)
  return /\\u(?:0000|d[89a-f])/.test(text)
    ? JSON.stringify(value, (_, part: unknown) => typeof part === "string" ? storable(part) : part)
    : text
}

/** The text in a form that both databases can keep. */
export const storable = (text: string): string => text.toWellFormed().replaceAll("\0", "\uFFFD")
