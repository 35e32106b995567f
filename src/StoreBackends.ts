/**
 * The dynamic backends, as all replicas see them.
 */
import * as Effect from "effect/Effect"
import type { Fragment } from "effect/sql/Statement"
import type { StoredBackend } from "./DeliveryStore.ts"
import { cancelLot, mostCancelled } from "./StoreQueue.ts"
import type { StoreSession } from "./StoreSession.ts"

export const make = (session: StoreSession) => {
  const { dialect, sql } = session

  const list = Effect.map(
    sql<
      { readonly key: string; readonly url: string; readonly registered_at: number; readonly expires_at: number | null }
    >`
      SELECT key, url, registered_at, expires_at FROM backends ORDER BY registered_at, key`,
    (rows) =>
      rows.map(({ expires_at, key, registered_at, url }): StoredBackend => ({
        key,
        url,
        registeredAt: registered_at,
        expiresAt: expires_at ?? undefined
      }))
  )

  const put = Effect.fnUntraced(function*(
    { key, ttl, url }: { readonly key: string; readonly url: string; readonly ttl: number | undefined },
    limit: number
  ) {
    // Two replicas that count at once would both find room.
    yield* sql.onDialectOrElse({
      pg: () => sql`LOCK TABLE backends IN SHARE ROW EXCLUSIVE MODE`,
      orElse: () => Effect.void
    })
    const expiresAt = ttl === undefined ? sql`NULL` : sql`${dialect.now()} + ${sql.literal(String(Math.round(ttl)))}`
    const renewed =
      yield* sql`UPDATE backends SET url = ${url}, expires_at = ${expiresAt} WHERE key = ${key} RETURNING key`
    if (renewed.length > 0) return "renewed" as const
    const [row] = yield* sql<{ readonly n: number }>`SELECT count(*) AS n FROM backends`
    if (row!.n >= limit) return "limit" as const
    yield* sql`INSERT INTO backends (key, url, registered_at, expires_at)
      VALUES (${key}, ${url}, ${dialect.now()}, ${expiresAt})`
    return "added" as const
  }, sql.withTransaction)

  const expired = () => sql`expires_at <= ${dialect.now()}`

  /**
   * One step of a removal: a lot of the backend's rows, and with the last lot the backend. So whoever is interrupted leaves
   * nothing that somebody else could not finish.
   */
  const removeLot = Effect.fnUntraced(function*(key: string, condition: Fragment) {
    const found = yield* sql`SELECT key FROM backends WHERE key = ${key} AND ${condition} ${dialect.forUpdate("wait")}`
    if (found.length === 0) return "absent" as const
    if ((yield* cancelLot(session, key)) === mostCancelled) return "more" as const
    yield* sql`DELETE FROM backends WHERE key = ${key}`
    return "removed" as const
  }, sql.withTransaction)

  return {
    list,
    put,
    removeLot: (key: string) => removeLot(key, sql`1 = 1`),
    expireLot: (key: string) => removeLot(key, expired()),
    expired: Effect.map(
      Effect.suspend(() => sql<{ readonly key: string }>`SELECT key FROM backends WHERE ${expired()} ORDER BY key`),
      (rows) => rows.map(({ key }) => key)
    )
  }
}
