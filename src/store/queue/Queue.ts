/**
 * Rows that wait: who takes them, keeps them, gives them back and asks for them again.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreSession } from "../Session.ts"
import type { Redelivered, RowFilter, RowName } from "../contract/Operator.ts"
import type { Claimed, ClaimOrder } from "../contract/Queue.ts"
import * as StoreFilters from "../operator/Filters.ts"
import * as StoreSearch from "../operator/Search.ts"

interface ClaimedRow extends Claimed {
  readonly dueAt: number
}

export const make = (session: StoreSession) => {
  const { dialect, lease, owner, sql } = session
  const { ofRow } = StoreFilters.make(dialect)
  const search = StoreSearch.make(session)
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

  /** Of rows that were found: one that has changed since is left alone. */
  const askAgain = Effect.fnUntraced(function*(names: ReadonlyArray<RowName>, filter: RowFilter) {
    // Their bodies stay until this is over.
    yield* sql`SELECT id FROM deliveries
      WHERE id IN (SELECT value FROM ${dialect.strings([...new Set(names.map(({ id }) => id))])})
      ORDER BY id ${dialect.forUpdate("wait")}`
    const again = dialect.bulk({ id: "text", key: "text" }, (i, { from }, now) => {
      const conditions = [
        sql`r.delivery_id = ${i.id}`,
        sql`r.backend_key = ${i.key}`,
        sql`(r.state <> 'pending' OR (r.owner IS NULL AND r.due_at > ${now}))`,
        sql`EXISTS (SELECT 1 FROM deliveries d WHERE d.id = ${i.id} AND d.has_payload = 1)`,
        ...ofRow(filter)
      ]
      return sql`UPDATE delivery_rows AS r SET
          since = CASE WHEN r.state = 'pending' THEN r.since ELSE ${now} END,
          tries = CASE WHEN r.state = 'pending' THEN r.tries ELSE 0 END,
          state = 'pending', owner = NULL, due_at = ${now}, settled_at = NULL
        ${from} WHERE ${sql.and(conditions)}
        RETURNING delivery_id AS id, backend_key AS key`
    })
    const sent: ReadonlyArray<RowName> = yield* dialect.run(again, names.map(({ id, key }) => ({ id, key })))
    yield* lookAgain(session, sent)
    return sent.length
  }, sql.withTransaction)

  const redeliver = Effect.fnUntraced(function*(
    filter: RowFilter,
    limit: number,
    after?: RowName
  ): Effect.fn.Return<Redelivered, SqlError> {
    const { found, reached } = yield* search.rows(filter, { limit, after })
    const names = found.slice(0, limit)
    const isMore = found.length > limit
    // Counted once, and not where it is seen: counting many takes longer than sending a lot of them.
    const all = after !== undefined
      ? undefined
      : !isMore && reached === undefined
      ? names.length
      : yield* search.countRows(filter)
    const redelivered = names.length === 0 ? 0 : yield* askAgain(names, filter)
    return {
      redelivered,
      remaining: all === undefined ? undefined : Math.max(0, all - names.length),
      next: isMore ? names.at(-1) : reached === undefined ? undefined : { id: reached, key: afterAllKeys }
    }
  })

  return {
    redeliver,

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

/** Backends' keys are URLs. */
const afterAllKeys = "~"

/** Rows that are cancelled in one transaction: a backlog may have millions, and others want to write. */
export const mostCancelled = 1_000

/** In a transaction: pending rows of a backend become cancelled, so many at most; how many. */
export const cancelLot = Effect.fnUntraced(function*({ dialect, sql }: StoreSession, key: string) {
  const ended = yield* sql<{ readonly id: string }>`UPDATE delivery_rows
    SET state = 'cancelled', owner = NULL, settled_at = ${dialect.now()}
    WHERE (delivery_id, backend_key) IN (
      SELECT delivery_id, backend_key FROM delivery_rows WHERE backend_key = ${key} AND state = 'pending'
      LIMIT ${sql.literal(String(mostCancelled))} ${dialect.forUpdate("wait")})
    RETURNING delivery_id AS id`
  yield* lookAgain({ dialect, sql }, ended)
  return ended.length
})

/** In a transaction: some rows of these deliveries have ended, or begun anew. */
export const lookAgain = (
  { dialect, sql }: Pick<StoreSession, "dialect" | "sql">,
  rows: ReadonlyArray<{ readonly id: string }>
) =>
  rows.length === 0
    ? Effect.void
    : sql`UPDATE deliveries SET stage = 0, stage_at = ${dialect.now()}
      WHERE id IN (SELECT value FROM ${dialect.strings([...new Set(rows.map(({ id }) => id))])})`
