/** Statements as PostgreSQL takes them. Many rows are one JSON document, and their bytes are one value. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Fragment } from "effect/sql/Statement"
import {
  type Bulk,
  type BulkColumns,
  type BulkRow,
  type BulkRows,
  inColumns,
  jsonOf,
  type StoreDialect,
  StoredParts
} from "../Dialect.ts"
import { isUnwritten } from "../SqlErrors.ts"
import * as Bodies from "./Bodies.ts"
import { durably } from "./Client.ts"

class RowsPlace {
  readonly columns: BulkColumns
  constructor(columns: BulkColumns) {
    this.columns = columns
  }
}

class BytesPlace extends RowsPlace {}

/** How many rows there are. */
class CountPlace extends RowsPlace {}

export const make = (sql: SqlClient): StoreDialect => {
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

  /** All bulks are one statement, so all its parts see what was there before it. */
  const atOnce: StoreDialect["atOnce"] = (known, bulks) => {
    const steps = bulks.map(({ statement }, at) => {
      const counted = sql.literal(at === 0 ? "RETURNING 1 AS one" : "")
      return sql`${sql.literal(`step${at}`)} AS (${statement} AND NOT EXISTS (SELECT 1 FROM known) ${counted})`
    })
    // A text that is no number makes the statement fail, and with it all steps.
    const [text, params] = sql`WITH known AS MATERIALIZED (${known.statement}), ${sql.csv(steps)},
        first AS (SELECT count(*) AS written FROM step0)
      SELECT (SELECT count(*)::integer FROM known) AS known, ${sql.literal(durably)} AS synced,
        CASE WHEN written < ${new CountPlace(bulks[0]!.columns)}::bigint AND NOT EXISTS (SELECT 1 FROM known)
          THEN ('written: ' || written)::integer END AS checked
      FROM first`.compile()
    return (parts) =>
      sql.unsafe<{ readonly known: number }>(text, filled(params, parts)).pipe(
        Effect.map(([row]) => row!.known === 0),
        Effect.catchIf(isUnwritten, () => Effect.succeed(false))
      )
  }

  return {
    kind: "postgres",
    sql,
    now: () => now,
    ago: (millis) => sql`${now} - ${sql.literal(String(Math.round(millis)))}`,
    age: (since) => sql`(${now} - ${since})`,
    // PostgreSQL's own time limit ends a statement.
    inTime: () => sql.literal("TRUE"),
    bulk: (columns, statement) => {
      const rows = rowsOf(columns)
      const made = statement(
        inColumns(columns, (name) => sql.literal(`i.${name}`)),
        { rows, from: sql`FROM ${rows}` },
        now
      )
      const [text, params] = made.compile()
      return { columns, statement: made, text, params }
    },
    run: (bulk, rows) => sql.unsafe(bulk.text, filled(bulk.params, [[bulk, rows]])),
    atOnce,
    largeBodies: {
      wholeBytes: Bodies.wholeBytes,
      send: (body) => Bodies.send(sql, body),
      forget: (parts) => Bodies.forget(sql, parts),
      receive: (id, length) => Bodies.receive(sql, id, length)
    },
    strings: (values) => sql`jsonb_array_elements_text(${jsonOf(values)}::jsonb) AS i(value)`,
    forUpdate: (how, of) =>
      sql.literal(`FOR UPDATE${of === undefined ? "" : ` OF ${of}`}${how === "skip" ? " SKIP LOCKED" : ""}`),
    using: () => sql.literal("")
  }
}

/** The parameters of a statement that is made of the statements of these bulks. */
const filled = (params: Bulk["params"], parts: ReadonlyArray<BulkRows>): ReadonlyArray<unknown> => {
  const byColumns = new Map(parts.map(([bulk, rows]) => [bulk.columns, documentOf(bulk.columns, rows)]))
  return params.map((param) => {
    if (!(param instanceof RowsPlace)) return param
    const { bytes, count, document } = byColumns.get(param.columns)!
    return param instanceof CountPlace ? count : param instanceof BytesPlace ? bytes : document
  })
}

const documentOf = (columns: BulkColumns, rows: ReadonlyArray<BulkRow>) => {
  const column = Object.keys(columns).find((name) => columns[name] === "bytes")
  const count = rows.length
  if (column === undefined) return { document: jsonOf(rows), bytes: undefined, count }
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
  return { count, document: jsonOf(located), bytes: found.length === 1 ? found[0]! : Buffer.concat(found) }
}
