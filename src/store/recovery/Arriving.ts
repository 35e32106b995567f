/** Deliveries that were missing, or went without the store, and arrive now. The queue asks here as it writes them. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { BulkRow } from "../Dialect.ts"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import type { NewDelivery } from "../contract/Queue.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"
import type { Memory, Remembered } from "../queue/Remembered.ts"
import { deliveryColumns, deliveryRow } from "../queue/Rows.ts"
import * as Conditions from "./Conditions.ts"
import { type Ends, endsOf, StoredEnds } from "./Fallbacks.ts"

const recoveryRows = Question.rowsOf(Schema.Struct({ asked: Schema.String, is_answer: Schema.Finite }))
const fallbackRows = Question.rowsOf(Schema.Struct({ asked: Schema.String, ends: StoredEnds }))

export const make = (session: StoreSession): Memory => {
  const { dialect, sql } = session
  const { isAnswer, isMissing, isOurHook, recovered } = Conditions.make(session)

  const matching = (i: { readonly guid: Fragment; readonly hook_id: Fragment }) =>
    sql`y.guid = ${i.guid} AND ${isOurHook(i.hook_id)}`
  const same = (i: { readonly guid: Fragment; readonly hook_id: Fragment; readonly body_hash: Fragment }) =>
    sql`f.guid = ${i.guid} AND f.hook_id = ${i.hook_id} AND f.body_hash = ${i.body_hash}`
  const named = { guid: sql`i.guid`, hook_id: sql`i.hook_id`, body_hash: sql`i.body_hash` }

  const recoveries = dialect.bulk(
    deliveryColumns,
    (_, { rows }, now) =>
      sql`SELECT i.id AS asked, CASE WHEN ${isAnswer(now)} THEN 1 ELSE 0 END AS is_answer
      FROM ${rows} JOIN recoveries y ON ${matching(named)} ${dialect.forUpdate("wait", "y")}`
  )
  const fallbacks = dialect.bulk(
    deliveryColumns,
    (_, { rows }) =>
      sql`SELECT i.id AS asked, f.ends AS ends FROM ${rows} JOIN fallbacks f ON ${same(named)}
      ${dialect.forUpdate("wait", "f")}`
  )
  const recover = dialect.bulk(
    deliveryColumns,
    (i, { from }) =>
      sql`UPDATE recoveries AS y SET ${recovered} ${from} WHERE ${
        matching(i)
      } AND (${isMissing} OR y.state = 'given up')`
  )
  const forget = dialect.bulk(
    deliveryColumns,
    (_, { rows }) =>
      sql`DELETE FROM fallbacks WHERE (guid, hook_id, body_hash) IN (SELECT i.guid, i.hook_id, i.body_hash FROM ${rows})`
  )
  const end = dialect.bulk(
    { id: "text", key: "text", state: "text" },
    (i, { from }, now) =>
      sql`UPDATE delivery_rows SET state = ${i.state}, owner = NULL, due_at = ${now}, settled_at = ${now} ${from}
      WHERE delivery_id = ${i.id} AND backend_key = ${i.key}`
  )

  return {
    isRemembered: (i, now) =>
      sql`(EXISTS (SELECT 1 FROM recoveries y WHERE ${matching(i)} AND (y.state = 'given up' OR ${isAnswer(now)}))
        OR EXISTS (SELECT 1 FROM fallbacks f WHERE ${same(i)}))`,

    look: Effect.fnUntraced(function*(
      deliveries: ReadonlyArray<NewDelivery>
    ): Effect.fn.Return<ReadonlyMap<string, Remembered>, SqlError | StoreUnavailable> {
      const asked = deliveries.map(deliveryRow)
      const ends = new Map<string, Ends>()
      for (const row of yield* fallbackRows(dialect.run(fallbacks, asked))) ends.set(row.asked, endsOf(row.ends))
      const answers = new Map<string, boolean>()
      for (const row of yield* recoveryRows(dialect.run(recoveries, asked))) answers.set(row.asked, row.is_answer === 1)
      return new Map(
        deliveries.flatMap(({ id }) =>
          ends.has(id) || answers.has(id)
            ? [[id, { isAnswer: answers.get(id) ?? false, ends: ends.get(id) }] as const]
            : []
        )
      )
    }),

    arrived: Effect.fnUntraced(function*(deliveries: ReadonlyArray<NewDelivery>, ended: ReadonlyArray<BulkRow>) {
      const rows = deliveries.map(deliveryRow)
      yield* dialect.run(end, ended)
      yield* dialect.run(forget, rows)
      yield* dialect.run(recover, rows)
    })
  }
}
