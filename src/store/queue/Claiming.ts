/** Rows that are due: finds backends that have some, claims rows, and gives them back. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreSession } from "../Session.ts"
import type { Claimed, ClaimOrder } from "../contract/Queue.ts"

interface ClaimedRow extends Claimed {
  readonly dueAt: number
}

export const make = ({ dialect, lease, owner, sql }: StoreSession) => {
  const mine = sql`state = 'pending' AND owner = ${owner}`
  const leaseEnd = () => sql`${dialect.now()} + ${sql.literal(String(lease))}`

  const picked = (key: string, limit: number, order: ClaimOrder) => {
    const among = order === "oldest"
      ? sql`delivery_rows WHERE backend_key = ${key} AND state = 'pending' AND due_at <= ${dialect.now()}
          ORDER BY due_at, delivery_id`
      : sql`delivery_rows ${dialect.using("delivery_rows_waiting")}
          WHERE backend_key = ${key} AND state = 'pending' AND owner IS NULL AND due_at <= ${dialect.now()}
          ORDER BY delivery_id DESC`
    return sql`SELECT delivery_id, backend_key, due_at FROM ${among} LIMIT ${sql.literal(String(limit))}
      ${dialect.forUpdate("skip")}`
  }

  const claimPostgres = (key: string, limit: number, order: ClaimOrder) =>
    sql<ClaimedRow>`WITH picked AS MATERIALIZED (${picked(key, limit, order)})
      UPDATE delivery_rows r SET owner = ${owner}, due_at = ${leaseEnd()}
      FROM picked p, deliveries d
      WHERE r.delivery_id = p.delivery_id AND r.backend_key = p.backend_key AND d.id = p.delivery_id
      RETURNING r.delivery_id AS id, r.backend_key AS key, r.tries AS tries,
        ${dialect.age(sql.literal("r.since"))} AS age, d.body_length AS "bodyLength", p.due_at AS "dueAt"`

  const claimSqlite = Effect.fnUntraced(function*(key: string, limit: number, order: ClaimOrder) {
    const rows = yield* sql<ClaimedRow>`SELECT r.delivery_id AS id, r.backend_key AS key, r.tries AS tries,
        ${dialect.age(sql.literal("r.since"))} AS age, d.body_length AS "bodyLength", r.due_at AS "dueAt"
      FROM (${picked(key, limit, order)}) AS p
      JOIN delivery_rows r ON r.delivery_id = p.delivery_id AND r.backend_key = p.backend_key
      JOIN deliveries d ON d.id = p.delivery_id`
    if (rows.length > 0) {
      yield* sql`UPDATE delivery_rows SET owner = ${owner}, due_at = ${leaseEnd()}
        WHERE backend_key = ${key} AND delivery_id IN (SELECT value FROM ${dialect.strings(rows.map(({ id }) => id))})`
    }
    return rows
  }, sql.withTransaction)

  const claimRows: (
    key: string,
    limit: number,
    order: ClaimOrder
  ) => Effect.Effect<ReadonlyArray<ClaimedRow>, SqlError> = dialect.kind === "sqlite" ? claimSqlite : claimPostgres

  return {
    due: (keys: ReadonlyArray<string>) =>
      Effect.map(
        sql<{ readonly value: string }>`SELECT i.value AS value FROM ${dialect.strings(keys)}
          WHERE EXISTS (SELECT 1 FROM delivery_rows r
            WHERE r.backend_key = i.value AND r.state = 'pending' AND r.due_at <= ${dialect.now()})`,
        (rows) => rows.map(({ value }) => value)
      ),

    claim: (backend: string, limit: number, order: ClaimOrder) =>
      Effect.map(claimRows(backend, limit, order), (rows): ReadonlyArray<Claimed> => {
        return rows
          .toSorted(
            order === "oldest" ? (a, b) => a.dueAt - b.dueAt || (a.id < b.id ? -1 : 1) : (a, b) => a.id < b.id ? 1 : -1
          )
          .map(({ age, bodyLength, id, key, tries }) => ({ id, key, tries, age: Math.max(0, age), bodyLength }))
      }),

    release: Effect.suspend(() =>
      Effect.asVoid(sql`UPDATE delivery_rows SET owner = NULL, due_at = ${dialect.now()} WHERE ${mine}`)
    )
  }
}
