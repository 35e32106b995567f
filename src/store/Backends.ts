/**
 * Keeps the dynamic backends that all replicas share.
 *
 * **Details**
 *
 * - Unregistering a backend ends its time, and then nobody sees it any more. For a minute, a replica that has not
 *   noticed may write rows for it. Those are cancelled, a lot in each transaction.
 * - What is left of the backend says when it was last changed. A replica that was cut off brings its changes later,
 *   with their age. A change is not made if it is older than what others have decided since.
 *
 * **Gotchas**
 *
 * A change that is made at once is made whatever the clock says, because the clock may have been set back.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Fragment } from "effect/sql/Statement"
import * as BackendFilter from "../domain/BackendFilter.ts"
import * as Question from "./Question.ts"
import type { StoreSession } from "./Session.ts"
import { lookAgain } from "./Stage.ts"
import type { BackendRecords, StoredBackend } from "./contract/Backends.ts"

/** Milliseconds. Replicas notice a change within a second or two. */
const clearedAfter = 60_000

/** Milliseconds. A replica that was cut off for longer may bring back a backend that was unregistered meanwhile. */
const forgottenAfter = 7 * 24 * 3_600_000

const Texts = Schema.fromJsonString(Schema.Array(Schema.String))

const backendsOf = Question.rowsOf(Schema.Struct({
  key: Schema.String,
  url: Schema.String,
  registered_at: Schema.Finite,
  expires_at: Schema.NullOr(Schema.Finite),
  expires_in: Schema.NullOr(Schema.Finite),
  repositories: Schema.NullOr(Texts),
  events: Schema.NullOr(Texts),
  failing_for: Schema.NullOr(Schema.Finite)
}))

export const make = (session: StoreSession) => {
  const { dialect, sql } = session
  const isLiving = () => sql`(expires_at IS NULL OR expires_at > ${dialect.now()})`
  const millis = (value: number) => sql.literal(String(Math.round(value)))
  const ago = (age: number): Fragment => age === 0 ? dialect.now() : sql`${dialect.now()} - ${millis(age)}`

  const list = Effect.suspend(() =>
    Effect.map(
      backendsOf(sql`SELECT key, url, registered_at, expires_at, expires_at - ${dialect.now()} AS expires_in,
          repositories, events, ${dialect.age(sql`failing_since`)} AS failing_for
        FROM backends ${dialect.using("backends_open")}
        WHERE cleared = 0 AND ${isLiving()} ORDER BY registered_at, key`),
      (rows) =>
        rows.map((
          { events, expires_at, expires_in, failing_for, key, registered_at, repositories, url }
        ): StoredBackend => ({
          key,
          url,
          registeredAt: registered_at,
          expiresAt: expires_at ?? undefined,
          expiresIn: expires_in ?? undefined,
          filter: BackendFilter.make(repositories ?? undefined, events ?? undefined),
          failingFor: failing_for ?? undefined
        }))
    )
  )

  const put = Effect.fnUntraced(function*(
    { age = 0, filter, key, ttl, url }: Parameters<BackendRecords["putBackend"]>[0],
    limit: number
  ) {
    const repositories = jsonOf(filter?.repositories)
    const events = jsonOf(filter?.events)
    // Two replicas that count at the same time would both find room.
    yield* sql.onDialectOrElse({
      pg: () => sql`LOCK TABLE backends IN SHARE ROW EXCLUSIVE MODE`,
      orElse: () => Effect.void
    })
    if (age > 0) {
      const newer = yield* sql`SELECT key FROM backends WHERE key = ${key} AND changed_at > ${ago(age)}`
      if (newer.length > 0) return "superseded" as const
    }
    const expiresAt = ttl === undefined ? sql`NULL` : sql`${dialect.now()} + ${millis(ttl)}`
    const renewed = yield* sql`UPDATE backends SET url = ${url}, expires_at = ${expiresAt}, changed_at = ${ago(age)},
        repositories = ${repositories}, events = ${events}, failing_since = NULL
      WHERE key = ${key} AND ${isLiving()} RETURNING key`
    if (renewed.length > 0) return "renewed" as const
    const [row] = yield* sql<{ readonly n: number }>`SELECT count(*) AS n
      FROM backends ${dialect.using("backends_open")} WHERE cleared = 0 AND ${isLiving()}`
    if (row!.n >= limit) return "limit" as const
    yield* sql`INSERT INTO backends (key, url, registered_at, expires_at, changed_at, cleared, repositories, events)
      VALUES (${key}, ${url}, ${ago(age)}, ${expiresAt}, ${ago(age)}, 0, ${repositories}, ${events})
      ON CONFLICT (key) DO UPDATE
        SET url = excluded.url, registered_at = excluded.registered_at, expires_at = excluded.expires_at,
          changed_at = excluded.changed_at, cleared = 0, repositories = excluded.repositories,
          events = excluded.events, failing_since = NULL`
    return "added" as const
  }, sql.withTransaction)

  /**
   * Ends a backend's time; whether this call ended it. A decision of some time ago is remembered in any case, because
   * older ones may still come.
   */
  const end = (key: string, age: number) => {
    const now = dialect.now()
    const ended = age === 0
      ? sql`UPDATE backends SET expires_at = ${now}, changed_at = ${now} WHERE key = ${key} AND ${isLiving()} RETURNING key`
      : sql`INSERT INTO backends (key, url, registered_at, expires_at, changed_at, cleared)
        VALUES (${key}, ${key}, ${ago(age)}, ${now}, ${ago(age)}, 0)
        ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at, changed_at = excluded.changed_at, cleared = 0
          WHERE backends.changed_at <= excluded.changed_at RETURNING key`
    return Effect.map(ended, (rows) => rows.length > 0)
  }

  const noteFailing = (key: string, isFailing: boolean) => {
    const since = isFailing ? sql`coalesce(failing_since, ${dialect.now()})` : sql`NULL`
    return Effect.asVoid(sql`UPDATE backends SET failing_since = ${since} WHERE key = ${key} AND ${isLiving()}`)
  }

  const endDead = (key: string, millisFailing: number) => {
    const now = dialect.now()
    return Effect.map(
      sql`UPDATE backends SET expires_at = ${now}, changed_at = ${now}
        WHERE key = ${key} AND ${isLiving()} AND failing_since <= ${dialect.ago(millisFailing)} RETURNING key`,
      (rows) => rows.length > 0
    )
  }

  const close = (key: string, age = 0) =>
    sql`UPDATE backends SET cleared = 1 WHERE key = ${key} AND expires_at <= ${ago(age)} RETURNING key`

  /** Takes one step to clear a backend whose time is over. True: there is more to do. */
  const clear = Effect.fnUntraced(function*(key: string) {
    const found =
      yield* sql`SELECT key FROM backends WHERE key = ${key} AND cleared = 0 AND expires_at <= ${dialect.now()}
      ${dialect.forUpdate("skip")}`
    if (found.length === 0) return false
    if ((yield* cancelLot(session, key)) === mostCancelled) return true
    const closed = yield* close(key, clearedAfter)
    if (closed.length > 0) yield* sql`DELETE FROM backends WHERE cleared = 1 AND changed_at <= ${ago(forgottenAfter)}`
    return false
  }, sql.withTransaction)

  const ended = Effect.suspend(() =>
    Effect.map(
      sql<{ readonly key: string }>`SELECT key FROM backends ${dialect.using("backends_open")}
        WHERE cleared = 0 AND expires_at <= ${dialect.now()}`,
      (rows) => rows.map(({ key }) => key)
    )
  )

  return { list, put, end, endDead, noteFailing, clear, ended, close: (key: string) => Effect.asVoid(close(key)) }
}

const jsonOf = (values: ReadonlySet<string> | undefined): string | null =>
  values === undefined ? null : JSON.stringify([...values])

/** The most rows that one transaction cancels. A backlog may have millions, and others want to write. */
const mostCancelled = 1_000

/** Cancels a backend's pending rows in a transaction, `mostCancelled` at most. Returns how many. */
const cancelLot = Effect.fnUntraced(function*({ dialect, sql }: StoreSession, key: string) {
  const ended = yield* sql<{ readonly id: string }>`UPDATE delivery_rows
    SET state = 'cancelled', owner = NULL, settled_at = ${dialect.now()}
    WHERE (delivery_id, backend_key) IN (
      SELECT delivery_id, backend_key FROM delivery_rows WHERE backend_key = ${key} AND state = 'pending'
      LIMIT ${sql.literal(String(mostCancelled))} ${dialect.forUpdate("wait")})
    RETURNING delivery_id AS id`
  yield* lookAgain({ dialect, sql }, ended)
  return ended.length
})
