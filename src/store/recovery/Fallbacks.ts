/** Deliveries that went without the store: their ends at each backend, and what is known of a GUID by them. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import type { BulkRow } from "../Dialect.ts"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import { type FallbackEnd, type FallbackRecord, type Recalled, recoveryStates } from "../contract/Recovery.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"
import { nameOf } from "../queue/Rows.ts"
import * as Conditions from "./Conditions.ts"

const printColumns = { guid: "text", hook_id: "text", body_hash: "text" } as const

/** By the backend's key. */
export type Ends = ReadonlyMap<string, FallbackEnd>

const EndsText = Schema.fromJsonString(
  Schema.Record(Schema.String, Schema.NullOr(Schema.Literals(["delivered", "rejected", "dead"])))
)

/** A column with ends, as it is read. */
export const StoredEnds = EndsText

export const endsOf = (stored: typeof EndsText.Type): Ends =>
  new Map(Object.entries(stored).map(([key, end]) => [key, end ?? undefined]))

const keptRows = Question.rowsOf(Schema.Struct({
  guid: Schema.String,
  hook_id: Schema.String,
  body_hash: Schema.String,
  ends: StoredEnds
}))

const recalledRows = Question.rowsOf(Schema.Struct({
  guid: Schema.String,
  held: Schema.Finite,
  is_complete: Schema.NullOr(Schema.Finite),
  state: Schema.NullOr(Schema.Literals(recoveryStates)),
  asks: Schema.NullOr(Schema.Finite)
}))

const sinceOf = Question.rowOf(Schema.Struct({ since: Schema.NullOr(Schema.Finite) }))

interface Print {
  readonly guid: string
  readonly hook_id: string
  readonly body_hash: string
}

type PrintRow = Print & BulkRow

const nameOfPrint = ({ body_hash, guid, hook_id }: Print) => `${guid}\n${hook_id}\n${body_hash}`

export const make = (session: StoreSession) => {
  const { dialect, reading, sql } = session
  const { isMissing, isOurHook, recovered } = Conditions.make(session)

  const holding = dialect.bulk(
    printColumns,
    (_, { rows }) =>
      sql`SELECT i.guid AS guid, i.hook_id AS hook_id, i.body_hash AS body_hash FROM ${rows}
      JOIN deliveries d ON d.guid = i.guid AND d.hook_id = i.hook_id AND d.body_hash = i.body_hash`
  )
  const kept = dialect.bulk(
    printColumns,
    (_, { rows }) =>
      sql`SELECT f.guid AS guid, f.hook_id AS hook_id, f.body_hash AS body_hash, f.ends AS ends FROM ${rows}
      JOIN fallbacks f ON f.guid = i.guid AND f.hook_id = i.hook_id AND f.body_hash = i.body_hash
      ${dialect.forUpdate("wait", "f")}`
  )
  const keep = dialect.bulk(
    { ...printColumns, ends: "text", is_complete: "bigint", age: "bigint" },
    (i, { from }, now) =>
      sql`INSERT INTO fallbacks AS f (guid, hook_id, body_hash, ends, is_complete, received_at, kept_at)
      SELECT ${i.guid}, ${i.hook_id}, ${i.body_hash}, ${i.ends}, ${i.is_complete}, ${now} - ${i.age}, ${now} ${from}
      WHERE true
      ON CONFLICT (guid, hook_id, body_hash) DO UPDATE SET ends = excluded.ends, is_complete = excluded.is_complete,
        received_at = CASE WHEN excluded.received_at < f.received_at THEN excluded.received_at ELSE f.received_at END,
        kept_at = excluded.kept_at`
  )
  const recover = dialect.bulk(printColumns, (i, { from }) =>
    sql`UPDATE recoveries AS y SET ${recovered} ${from}
      WHERE y.guid = ${i.guid} AND ${isMissing} AND ${isOurHook(i.hook_id)}`)

  return {
    keepFallbacks: Effect.fnUntraced(function*(
      records: ReadonlyArray<FallbackRecord>
    ): Effect.fn.Return<void, SqlError | StoreUnavailable> {
      const prints = [...new Map(records.map((record) => [nameOfPrint(printOf(record)), printOf(record)])).values()]
      const isHeld = new Set((yield* dialect.run(holding, prints)).map(nameOfPrint))
      const ends = new Map<string, Map<string, FallbackEnd>>()
      for (const row of yield* keptRows(dialect.run(kept, prints))) {
        ends.set(nameOfPrint(row), new Map(endsOf(row.ends)))
      }
      const ages = new Map<string, number>()
      for (const record of records) {
        const name = nameOfPrint(printOf(record))
        ages.set(name, Math.max(ages.get(name) ?? 0, Math.round(record.age)))
        const ofRecord = ends.get(name) ?? new Map<string, FallbackEnd>()
        for (const { end, key } of record.backends) ofRecord.set(key, better(ofRecord.get(key), end))
        ends.set(name, ofRecord)
      }
      const rows = prints.filter((print) => !isHeld.has(nameOfPrint(print))).map((print) => {
        const ofPrint = ends.get(nameOfPrint(print))!
        const stored = [...ofPrint].map(([key, end]) => [key, end ?? null] as const)
        return Object.assign(print, {
          ends: JSON.stringify(Object.fromEntries(stored)),
          is_complete: [...ofPrint.values()].includes(undefined) ? 0 : 1,
          age: ages.get(nameOfPrint(print))!
        })
      })
      yield* dialect.run(keep, rows.filter((_row, at) => ends.get(nameOfPrint(rows[at]!))!.size > 0))
      yield* dialect.run(recover, rows.filter(({ is_complete }) => is_complete === 1))
    }, sql.withTransaction),

    lackingSince: Effect.map(
      sinceOf(reading`SELECT min(f.received_at) AS since FROM fallbacks f
        WHERE f.is_complete = 0 AND ${isOurHook(sql`f.hook_id`)} AND f.kept_at >=
          coalesce((SELECT g.full_began_at FROM recovery_progress g), 0) - ${sql.literal(String(longestKeeping))}`),
      ({ since }) => since ?? undefined
    ),

    recall: (guids: ReadonlyArray<string>, hookId: string | undefined) => {
      const isOfHook = (column: string) => hookId === undefined ? sql`1 = 1` : sql`${sql.literal(column)} = ${hookId}`
      return Effect.map(
        recalledRows(reading`SELECT i.value AS guid,
            CASE WHEN EXISTS (SELECT 1 FROM deliveries d WHERE d.guid = i.value AND ${isOfHook("d.hook_id")})
              THEN 1 ELSE 0 END AS held,
            (SELECT min(f.is_complete) FROM fallbacks f WHERE f.guid = i.value AND ${isOfHook("f.hook_id")})
              AS is_complete,
            y.state AS state, y.asks AS asks
          FROM ${dialect.strings([...new Set(guids)])} LEFT JOIN recoveries y ON y.guid = i.value`),
        (rows) =>
          rows.flatMap(({ asks, guid, held, is_complete, state }): ReadonlyArray<Recalled> =>
            held === 0 && is_complete === null && state === null ? [] : [{
              guid,
              held: held === 1,
              fallback: is_complete === null ? undefined : is_complete === 1 ? "complete" : "lacking",
              recovery: state === null || asks === null ? undefined : { state, asks }
            }]
          )
      )
    }
  }
}

/** Milliseconds from the time of a record until others see it. */
const longestKeeping = 60_000

const printOf = ({ bodyHash, guid, hookId }: FallbackRecord): PrintRow => ({
  guid: nameOf(guid),
  hook_id: nameOf(hookId),
  body_hash: bodyHash
})

const fromBest: ReadonlyArray<FallbackEnd> = ["delivered", "rejected", "dead", undefined]

const better = (one: FallbackEnd, other: FallbackEnd): FallbackEnd =>
  fromBest.indexOf(one) < fromBest.indexOf(other) ? one : other
