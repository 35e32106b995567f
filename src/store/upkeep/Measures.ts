/**
 * Measures the store: its size in bytes, and the backlog of each backend.
 *
 * **Details**
 *
 * - SQLite: the pages that are in use. SQLite gives none back, but uses them again.
 * - PostgreSQL: the size that its files would have if they held only live rows, from its own statistics. It is never
 *   more than the size of the files. As with SQLite, it falls soon after a deletion, and not only after a `VACUUM
 *   FULL`. Both cost the same whatever the size.
 *
 * **Gotchas**
 *
 * PostgreSQL's counts come a second late, or ten, and are lost when it crashes. Then the counts of the last `ANALYZE`
 * are the start. Averages change when PostgreSQL analyses a table, which is once a minute if a tenth has changed. A
 * table that it has not analysed yet, or in which nothing was ever deleted, counts with all of its files.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import type { BackendBacklog } from "../contract/Upkeep.ts"

const usageOf = Question.rowOf(Schema.Struct({ bytes: Schema.Finite }))
const pendingOf = Question.rowsOf(Schema.Struct({ key: Schema.String, n: Schema.Finite, age: Schema.Finite }))
const deadOf = Question.rowsOf(Schema.Struct({ key: Schema.String, n: Schema.Finite }))

export const make = ({ dialect, reading: sql }: StoreSession) => {
  const overhead = sql.literal(String(tupleOverhead))
  const chunk = sql.literal(String(chunkBytes))

  const usage = Effect.suspend(() =>
    Effect.map(
      usageOf(sql.onDialectOrElse({
        orElse: () =>
          sql`SELECT (p.page_count - f.freelist_count) * s.page_size AS bytes
            FROM pragma_page_count() p, pragma_freelist_count() f, pragma_page_size() s`,
        pg: () =>
          sql`WITH
            tables AS (SELECT c.oid AS oid, c.reltoastrelid AS toast, w.width AS width
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              LEFT JOIN LATERAL (SELECT ${overhead} + sum(s.avg_width * (1 - s.null_frac)) AS width
                FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname) w ON true
              WHERE c.oid IN ('deliveries'::regclass, 'payloads'::regclass, 'delivery_rows'::regclass,
                'attempts'::regclass)),
            heaps AS (SELECT oid, width FROM tables
              UNION ALL SELECT toast, ${chunk} FROM tables WHERE toast <> 0),
            counts AS (SELECT h.oid AS oid, h.width AS width, c.reltuples AS analysed,
                s.n_tup_ins - s.n_tup_del AS added, s.n_tup_upd + s.n_tup_del AS emptied, s.n_live_tup AS alive,
                coalesce(s.last_vacuum, s.last_autovacuum, s.last_analyze, s.last_autoanalyze) IS NULL AS is_new
              FROM heaps h JOIN pg_class c ON c.oid = h.oid JOIN pg_stat_all_tables s ON s.relid = h.oid),
            sizes AS (SELECT pg_relation_size(oid) AS heap, pg_indexes_size(oid) AS indexes, CASE
                WHEN is_new AND analysed < 0 AND emptied = 0 THEN NULL
                WHEN is_new AND analysed > 0 THEN analysed + added
                ELSE alive END * width AS full_of FROM counts)
            SELECT coalesce(sum((heap + indexes) *
              CASE WHEN heap = 0 OR full_of IS NULL THEN 1 ELSE least(1, greatest(0, full_of / heap)) END
            ), 0)::bigint AS bytes FROM sizes`
      })),
      ({ bytes }) => bytes
    )
  )

  const backlogs = Effect.gen(function*() {
    const pending = yield* pendingOf(sql`
      SELECT backend_key AS key, count(*) AS n, ${dialect.now()} - min(since) AS age
      FROM delivery_rows ${dialect.using("delivery_rows_open")} WHERE state = 'pending' GROUP BY backend_key`)
    const dead = yield* deadOf(sql`SELECT backend_key AS key, count(*) AS n
      FROM delivery_rows ${dialect.using("delivery_rows_failed_by_id")}
      WHERE state IN ('rejected', 'dead', 'cancelled') AND state = 'dead' GROUP BY backend_key`)
    const byKey = new Map<string, BackendBacklog>()
    for (const { age, key, n } of pending) byKey.set(key, { key, pending: n, dead: 0, oldestAge: Math.max(0, age) })
    for (const { key, n } of dead) {
      byKey.set(key, { ...(byKey.get(key) ?? { key, pending: 0, oldestAge: undefined }), dead: n })
    }
    return [...byKey.values()]
  })

  return { usage, backlogs }
}

/** Bytes that a row of PostgreSQL's has beside its columns: a header, a pointer, and gaps between columns. */
const tupleOverhead = 48

/**
 * PostgreSQL keeps large values in pieces, four to a page. https://www.postgresql.org/docs/current/storage-toast.html
 */
const chunkBytes = 2_048
