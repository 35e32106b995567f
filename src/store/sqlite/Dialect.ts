/** Statements as SQLite takes them. A bulk is run once for each row, which is faster there. */
import * as Effect from "effect/Effect"
import { type Bulk, type BulkRow, inColumns, jsonOf, type StoreDialect } from "../Dialect.ts"
import { isConflict, isUnwritten } from "../SqlErrors.ts"
import type { SqliteClient } from "./Client.ts"
import type { StoreClock } from "./Clock.ts"

/** The place for a column's value in the text of a bulk. */
class ColumnPlace {
  readonly column: string
  constructor(column: string) {
    this.column = column
  }
}

export const make = (sql: SqliteClient, clock: Pick<StoreClock, "ago" | "stops">): StoreDialect => {
  const now = sql.literal("store_now()")
  return {
    kind: "sqlite",
    sql,
    now: () => now,
    ago: (millis) => sql`${clock.ago(millis)}`,
    age: (since) =>
      clock.stops.reduce(
        // A write after the last note of the clock lies within the stop.
        (age, { at, length }) => sql`(${age} - CASE WHEN ${since} < ${at + length} THEN ${length} ELSE 0 END)`,
        sql`(${now} - ${since})`
      ),
    inTime: (column) => sql`store_in_time(${column})`,
    bulk: (columns, statement) => {
      const places = inColumns(columns, (name) => sql`${new ColumnPlace(name)}`)
      const named = Object.entries(places).map(([name, place]) => sql`${place} AS ${sql.literal(name)}`)
      const source = { rows: sql`(SELECT ${sql.csv(named)}) AS i`, from: sql.literal("") }
      const made = statement(places, source, now)
      return { columns, statement: made, ...numbered(made.compile()) }
    },
    atOnce: (_known, _bulks, whole) => (parts) => {
      const statements = parts.flatMap(([bulk, rows], at) =>
        rows.length === 0 ? [] : [{ ...fill(bulk, rows), writesEach: at === 0 || bulk === whole }]
      )
      if (statements.length === 0) return Effect.succeed(true)
      // The keys tell which rows are known.
      return Effect.as(sql.atomically(statements), true).pipe(
        Effect.catchIf((error) => isConflict(error) || isUnwritten(error), () => Effect.succeed(false))
      )
    },
    // All bytes go to the thread in one buffer.
    largeBodies: undefined,
    run: (bulk, rows) => Effect.map(sql.atomically([fill(bulk, rows)]), ([found]) => found!.rows),
    strings: (values) => sql`json_each(${jsonOf(values)}) AS i`,
    forUpdate: () => sql.literal(""),
    using: (index) => sql.literal(`INDEXED BY ${index}`)
  }
}

/** The statement once for each row, as `SqliteClient.atomically` takes it. */
const fill = (bulk: Bulk, rows: ReadonlyArray<BulkRow>) => ({
  text: bulk.text,
  width: bulk.params.length,
  values: rows.flatMap((row) =>
    bulk.params.map((param) => param instanceof ColumnPlace ? row[param.column] ?? null : param)
  )
})

const nameOf = (param: unknown) => param instanceof ColumnPlace ? `column ${param.column}` : param

/** A value that stands in several places is bound once. */
const numbered = ([text, params]: readonly [string, ReadonlyArray<unknown>]) => {
  const names = [...new Set(params.map(nameOf))]
  let at = 0
  return {
    text: text.replaceAll("?", () => `?${names.indexOf(nameOf(params[at++])) + 1}`),
    params: names.map((name) => params.find((param) => nameOf(param) === name))
  }
}
