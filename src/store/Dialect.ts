/**
 * Everything in which SQLite and PostgreSQL differ, for those who write statements for the store.
 *
 * **Details**
 *
 * - A `Bulk` is a statement over many rows, written once for both as if they were a table. PostgreSQL gets them as one JSON
 *   document, and their bytes as one value; SQLite runs the statement for each row, which is the faster there.
 * - The text of a bulk is made once. What changes fills in places that are kept for it.
 */
import type * as Effect from "effect/Effect"
import * as Effects from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment, Statement } from "effect/sql/Statement"
import type { SqliteClient } from "./sqlite/Client.ts"
import type { StoreClock } from "./sqlite/Clock.ts"

type BulkColumns = Readonly<Record<string, "text" | "bigint" | "double precision" | "bytes">>

type BulkStatement<Columns> = (
  /** The values of a row. */
  row: { readonly [Column in keyof Columns]: Fragment },
  /** Where they are from: `rows` to be joined with, `from` where a statement needs nothing else. */
  source: { readonly rows: Fragment; readonly from: Fragment },
  now: Fragment
) => Statement<any>

export type BulkRow = Readonly<
  Record<string, string | number | Uint8Array | ReadonlyArray<Uint8Array> | StoredParts | null | undefined>
>

/** Bytes that are in PostgreSQL already, in parts. */
export class StoredParts {
  readonly key: string
  constructor(key: string) {
    this.key = key
  }
}

export interface Bulk {
  readonly columns: BulkColumns
  readonly statement: Statement<any>
  readonly text: string
  readonly params: ReadonlyArray<unknown>
}

type BulkRows = readonly [bulk: Bulk, rows: ReadonlyArray<BulkRow>]

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
  /** Strings as a table `i` with the one column `value`. */
  readonly strings: (values: ReadonlyArray<string>) => Fragment
  /** In a transaction: keeps these rows from being changed by others, who are waited for or passed over. */
  readonly forUpdate: (how: "wait" | "skip", of?: string) => Fragment
  /** Makes SQLite take a partial index where it would read the whole table. */
  readonly using: (index: string) => Fragment
}

class ColumnPlace {
  readonly column: string
  constructor(column: string) {
    this.column = column
  }
}

export const sqlite = (
  sql: SqliteClient,
  clock: Pick<StoreClock, "ago" | "stops">
): StoreDialect & { readonly sql: SqliteClient } => {
  const now = sql.literal("store_now()")
  const dialect: StoreDialect & { readonly sql: SqliteClient } = {
    kind: "sqlite",
    sql,
    now: () => now,
    ago: (millis) => sql`${clock.ago(millis)}`,
    age: (since) =>
      clock.stops.reduce(
        // What came after the last note of the clock lies within the stop.
        (age, { at, length }) => sql`(${age} - CASE WHEN ${since} < ${at + length} THEN ${length} ELSE 0 END)`,
        sql`(${now} - ${since})`
      ),
    inTime: (column) => sql`store_in_time(${column})`,
    bulk: (columns, statement) => {
      const places = mapColumns(columns, (name) => sql`${new ColumnPlace(name)}`)
      const named = Object.entries(places).map(([name, place]) => sql`${place} AS ${sql.literal(name)}`)
      const source = { rows: sql`(SELECT ${sql.csv(named)}) AS i`, from: sql.literal("") }
      const made = statement(places, source, now)
      return { columns, statement: made, ...numbered(made.compile()) }
    },
    run: (bulk, rows) => Effects.map(sql.atomically([fillSqlite(bulk, rows)]), ([found]) => found!.rows),
    strings: (values) => sql`json_each(${json(values)}) AS i`,
    forUpdate: () => sql.literal(""),
    using: (index) => sql.literal(`INDEXED BY ${index}`)
  }
  return dialect
}

/** The statement once for each row, as `SqliteClient.atomically` takes it. */
export const fillSqlite = (bulk: Bulk, rows: ReadonlyArray<BulkRow>) => ({
  text: bulk.text,
  width: bulk.params.length,
  values: rows.flatMap((row) =>
    bulk.params.map((param) => param instanceof ColumnPlace ? row[param.column] ?? null : param)
  )
})

class RowsPlace {
  readonly columns: BulkColumns
  constructor(columns: BulkColumns) {
    this.columns = columns
  }
}

class BytesPlace extends RowsPlace {}

export const postgres = (sql: SqlClient): StoreDialect => {
  const now = sql.literal("(extract(epoch FROM statement_timestamp()) * 1000)::bigint")
  const rowsOf = (columns: BulkColumns): Fragment => {
    const types = Object.entries(columns).flatMap(([name, type]) =>
      type === "bytes"
        ? [`${name}_at integer`, `${name}_length integer`, `${name}_parts text`]
        : [`${name} ${type}`]
    )
    const names = Object.entries(columns).map(([name, type]) =>
      type === "bytes"
        ? sql`CASE WHEN ${sql.literal(`${name}_parts`)} IS NULL
            THEN substr(${new BytesPlace(columns)}::bytea, ${sql.literal(`${name}_at, ${name}_length`)})
            ELSE (SELECT string_agg(p.bytes, ''::bytea ORDER BY p.n) FROM payload_parts p
              WHERE p.key = ${sql.literal(`${name}_parts`)})
          END AS ${sql.literal(name)}`
        : sql.literal(name)
    )
    const table = sql`jsonb_to_recordset(${new RowsPlace(columns)}::jsonb) AS j(${sql.literal(types.join(", "))})`
    return sql`(SELECT ${sql.csv(names)} FROM ${table}) AS i`
  }
  return {
    kind: "postgres",
    sql,
    now: () => now,
    ago: (millis) => sql`${now} - ${sql.literal(String(Math.round(millis)))}`,
    age: (since) => sql`(${now} - ${since})`,
    // Its statements have a time limit.
    inTime: () => sql.literal("TRUE"),
    bulk: (columns, statement) => {
      const rows = rowsOf(columns)
      const made = statement(
        mapColumns(columns, (name) => sql.literal(`i.${name}`)),
        { rows, from: sql`FROM ${rows}` },
        now
      )
      const [text, params] = made.compile()
      return { columns, statement: made, text, params }
    },
    run: (bulk, rows) => sql.unsafe(bulk.text, fillPostgres(bulk, [[bulk, rows]])),
    strings: (values) => sql`jsonb_array_elements_text(${json(values)}::jsonb) AS i(value)`,
    forUpdate: (how, of) =>
      sql.literal(`FOR UPDATE${of === undefined ? "" : ` OF ${of}`}${how === "skip" ? " SKIP LOCKED" : ""}`),
    using: () => sql.literal("")
  }
}

/** The params of a statement that is made of these bulks' statements. */
export const fillPostgres = (
  composite: Pick<Bulk, "params">,
  parts: ReadonlyArray<BulkRows>
): ReadonlyArray<unknown> => {
  const filled = new Map(parts.map(([bulk, rows]) => [bulk.columns, fillRows(bulk.columns, rows)]))
  return composite.params.map((param) => {
    if (!(param instanceof RowsPlace)) return param
    const { bytes, document } = filled.get(param.columns)!
    return param instanceof BytesPlace ? bytes : document
  })
}

const fillRows = (columns: BulkColumns, rows: ReadonlyArray<BulkRow>) => {
  const column = Object.keys(columns).find((name) => columns[name] === "bytes")
  if (column === undefined) return { document: json(rows), bytes: undefined }
  const found: Array<Uint8Array> = []
  let at = 1
  const located = rows.map(({ [column]: value, ...row }) => {
    if (value instanceof StoredParts) return { ...row, [`${column}_parts`]: value.key }
    const chunks = value as ReadonlyArray<Uint8Array>
    found.push(...chunks)
    const length = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0)
    const place = { ...row, [`${column}_at`]: at, [`${column}_length`]: length }
    at += length
    return place
  })
  return { document: json(located), bytes: found.length === 1 ? found[0]! : Buffer.concat(found) }
}

const mapColumns = <Columns extends BulkColumns>(columns: Columns, f: (name: string) => Fragment) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, f(name)])) as { [Column in keyof Columns]: Fragment }

const nameOf = (param: unknown) => param instanceof ColumnPlace ? `column ${param.column}` : param

/** What stands in several places is bound once. */
const numbered = ([text, params]: readonly [string, ReadonlyArray<unknown>]) => {
  const names = [...new Set(params.map(nameOf))]
  let at = 0
  return {
    text: text.replaceAll("?", () => `?${names.indexOf(nameOf(params[at++])) + 1}`),
    params: names.map((name) => params.find((param) => nameOf(param) === name))
  }
}

/** JSON that PostgreSQL takes: it has no NUL in texts, and no half of a surrogate pair. */
const json = (value: unknown): string => {
  const text = JSON.stringify(value)
  return /\\u(?:0000|d[89a-f])/.test(text)
    ? JSON.stringify(value, (_, part: unknown) => typeof part === "string" ? storable(part) : part)
    : text
}

/** The text as either database can keep it. */
export const storable = (text: string): string => text.toWellFormed().replaceAll("\0", "\uFFFD")
