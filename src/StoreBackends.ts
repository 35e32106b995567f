/**
 * The dynamic backends, as all replicas see them.
 *
 * **Details**
 *
 * One that is unregistered is one whose time is over: nobody sees it any more. It is forgotten a minute later, because until
 * then a replica that has not noticed may write rows for it, and when its rows are cancelled, a lot in each transaction.
 */
import * as Effect from "effect/Effect"
import type { StoredBackend } from "./DeliveryStore.ts"
import { cancelLot, mostCancelled } from "./StoreQueue.ts"
import type { StoreSession } from "./StoreSession.ts"

/** Milliseconds; replicas notice within a second or two. */
const forgottenAfter = 60_000

export const make = (session: StoreSession) => {
  const { dialect, sql } = session
  const isLiving = () => sql`(expires_at IS NULL OR expires_at > ${dialect.now()})`

  const list = Effect.suspend(() =>
    Effect.map(
      sql<
        {
          readonly key: string
          readonly url: string
          readonly registered_at: number
          readonly expires_at: number | null
        }
      >`SELECT key, url, registered_at, expires_at FROM backends WHERE ${isLiving()} ORDER BY registered_at, key`,
      (rows) =>
        rows.map(({ expires_at, key, registered_at, url }): StoredBackend => ({
          key,
          url,
          registeredAt: registered_at,
          expiresAt: expires_at ?? undefined
        }))
    )
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
    const renewed = yield* sql`UPDATE backends SET url = ${url}, expires_at = ${expiresAt}
      WHERE key = ${key} AND ${isLiving()} RETURNING key`
    if (renewed.length > 0) return "renewed" as const
    const [row] = yield* sql<{ readonly n: number }>`SELECT count(*) AS n FROM backends WHERE ${isLiving()}`
    if (row!.n >= limit) return "limit" as const
    yield* sql`INSERT INTO backends (key, url, registered_at, expires_at)
      VALUES (${key}, ${url}, ${dialect.now()}, ${expiresAt})
      ON CONFLICT (key) DO UPDATE
        SET url = excluded.url, registered_at = excluded.registered_at, expires_at = excluded.expires_at`
    return "added" as const
  }, sql.withTransaction)

  const end = (key: string) =>
    Effect.map(
      sql`UPDATE backends SET expires_at = ${dialect.now()} WHERE key = ${key} AND ${isLiving()} RETURNING key`,
      (ended) => ended.length > 0
    )

  const forget = (key: string, age = 0) =>
    Effect.asVoid(
      sql`DELETE FROM backends WHERE key = ${key} AND expires_at <= ${dialect.now()} - ${sql.literal(String(age))}`
    )

  /** One step for a backend whose time is over; true: there is more to do. */
  const clear = Effect.fnUntraced(function*(key: string) {
    const found = yield* sql`SELECT key FROM backends WHERE key = ${key} AND expires_at <= ${dialect.now()}
      ${dialect.forUpdate("skip")}`
    if (found.length === 0) return false
    if ((yield* cancelLot(session, key)) === mostCancelled) return true
    yield* forget(key, forgottenAfter)
    return false
  }, sql.withTransaction)

  const ended = Effect.suspend(() =>
    Effect.map(
      sql<{ readonly key: string }>`SELECT key FROM backends WHERE expires_at <= ${dialect.now()}`,
      (rows) => rows.map(({ key }) => key)
    )
  )

  return { list, put, end, clear, ended, forget: (key: string) => forget(key) }
}
