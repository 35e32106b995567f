/** Makes rows due again that an operator asks for. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreSession } from "../Session.ts"
import { lookAgain } from "../Stage.ts"
import type { Redelivered, RowFilter, RowName } from "../contract/Operator.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"
import * as StoreFilters from "./Filters.ts"
import * as StoreSearch from "./Search.ts"

export const make = (session: StoreSession) => {
  const { dialect, sql } = session
  const { ofRow } = StoreFilters.make(dialect)
  const search = StoreSearch.make(session)

  /** Asks again for rows that were found. A row that has changed since is left alone. */
  const askAgain = Effect.fnUntraced(function*(names: ReadonlyArray<RowName>, filter: RowFilter) {
    // Locks the deliveries, so that their bodies stay until this is over.
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

  return Effect.fnUntraced(function*(
    filter: RowFilter,
    limit: number,
    after?: RowName
  ): Effect.fn.Return<Redelivered, SqlError | StoreUnavailable> {
    const { found, reached } = yield* search.rows(filter, { limit, after })
    const names = found.slice(0, limit)
    const isMore = found.length > limit
    // Counted once, and not if the number is seen already: counting many takes longer than sending a lot of them.
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
}

/** Sorts after all keys, because keys of backends are URLs. */
const afterAllKeys = "~"
