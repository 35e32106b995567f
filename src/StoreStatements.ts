/**
 * The statements that write deliveries and what becomes of them. Each of the first two groups ends in a `WHERE` that may be
 * added to.
 */
import type { Fragment } from "effect/sql/Statement"
import {
  attemptColumns,
  deliveryColumns,
  payloadColumns,
  settlementColumns,
  targetColumns
} from "./StoreRows.ts"
import type { StoreSession } from "./StoreSession.ts"

/** For deliveries that are not known. */
export const inserts = ({ dialect, lease, owner, sql }: StoreSession) => ({
  deliveries: dialect.bulk(deliveryColumns, (rows, now) =>
    sql`INSERT INTO deliveries (id, guid, hook_id, body_hash, request_id, event, method, target, received_at,
        body_length, has_payload, stage, stage_at)
      SELECT i.id, i.guid, i.hook_id, i.body_hash, i.request_id, i.event, i.method, i.target, ${now},
        i.body_length, 1, 0, ${now}
      FROM ${rows} WHERE true`),
  payloads: dialect.bulk(payloadColumns, (rows) =>
    sql`INSERT INTO payloads (delivery_id, headers, body) SELECT i.id, i.headers, i.body FROM ${rows} WHERE true`),
  rows: dialect.bulk(targetColumns, (rows, now) =>
    sql`INSERT INTO delivery_rows (delivery_id, backend_key, backend_url, state, since, due_at, owner, tries)
      SELECT i.id, i.key, i.url, 'pending', ${now}, ${pendingUntil(sql, now, lease)}, ${ownerOf(sql, owner)}, 0
      FROM ${rows} WHERE true`)
})

export const settling = ({ dialect, owner, sql }: StoreSession) => ({
  rows: dialect.bulk(settlementColumns, (rows, now) =>
    sql`UPDATE delivery_rows SET
        state = i.state,
        owner = NULL,
        due_at = ${now} + i.delay,
        tries = tries + i.attempts,
        last_outcome = coalesce(i.outcome, last_outcome),
        settled_at = CASE WHEN i.state = 'pending' THEN NULL ELSE ${now} END
      FROM ${rows}
      WHERE delivery_id = i.id AND backend_key = i.key
        AND (i.state IN ('delivered', 'rejected')
          OR (delivery_rows.state = 'pending' AND (owner IS NULL OR owner = ${owner} OR due_at <= ${now})))`),
  attempts: dialect.bulk(attemptColumns, (rows) =>
    sql`INSERT INTO attempts (delivery_id, backend_key, at, n, outcome, status, latency, error, answer)
      SELECT i.id, i.key, i.at, i.n, i.outcome, i.status, i.latency, i.error, i.answer FROM ${rows}
      WHERE EXISTS (SELECT 1 FROM delivery_rows r WHERE r.delivery_id = i.id AND r.backend_key = i.key)`),
  looks: dialect.bulk({ id: "text" }, (rows, now) =>
    sql`UPDATE deliveries SET stage = 0, stage_at = ${now} FROM ${rows}
      WHERE deliveries.id = i.id AND (stage > 0 OR stage_at > ${now})`)
})

/** Which of the deliveries `asked` are stored, and as what. */
export const known = ({ dialect, sql }: StoreSession) => {
  const byId = (rows: Fragment) => sql`SELECT i.id AS asked, d.id AS id FROM ${rows} JOIN deliveries d ON d.id = i.id`
  const byFingerprint = (rows: Fragment) =>
    sql`SELECT i.id AS asked, d.id AS id FROM ${rows}
      JOIN deliveries d ON d.guid = i.guid AND d.hook_id = i.hook_id AND d.body_hash = i.body_hash`
  const locked = dialect.forUpdate("wait", "d")
  return {
    byId: dialect.bulk(deliveryColumns, (rows) => sql`${byId(rows)} ${locked}`),
    byFingerprint: dialect.bulk(deliveryColumns, (rows) => sql`${byFingerprint(rows)} ${locked}`),
    byEither: dialect.bulk(deliveryColumns, (rows) => sql`${byId(rows)} UNION ALL ${byFingerprint(rows)}`)
  }
}

/** For deliveries that are known. */
export const changes = ({ dialect, lease, owner, sql }: StoreSession) => ({
  stored: dialect.bulk({ id: "text" }, (rows, now) =>
    sql`SELECT r.delivery_id AS id, r.backend_key AS key, r.state AS state, r.owner AS owner,
        CASE WHEN r.owner IS NOT NULL AND r.due_at > ${now} THEN 1 ELSE 0 END AS is_leased
      FROM ${rows} JOIN delivery_rows r ON r.delivery_id = i.id ${dialect.forUpdate("wait", "r")}`),
  rows: dialect.bulk(targetColumns, (rows, now) =>
    sql`INSERT INTO delivery_rows (delivery_id, backend_key, backend_url, state, since, due_at, owner, tries)
      SELECT i.id, i.key, i.url, 'pending', ${now}, ${pendingUntil(sql, now, lease)}, ${ownerOf(sql, owner)}, 0
      FROM ${rows} WHERE true
      ON CONFLICT (delivery_id, backend_key) DO UPDATE SET backend_url = excluded.backend_url,
        state = excluded.state, since = excluded.since, due_at = excluded.due_at, owner = excluded.owner,
        tries = 0, last_outcome = NULL, settled_at = NULL`),
  payloads: dialect.bulk(payloadColumns, (rows) =>
    sql`INSERT INTO payloads (delivery_id, headers, body) SELECT i.id, i.headers, i.body FROM ${rows} WHERE true
      ON CONFLICT (delivery_id) DO UPDATE SET headers = excluded.headers, body = excluded.body`),
  deliveries: dialect.bulk(deliveryColumns, (rows, now) =>
    sql`UPDATE deliveries SET request_id = i.request_id, event = i.event, method = i.method, target = i.target,
        has_payload = 1, stage = 0, stage_at = ${now}
      FROM ${rows} WHERE deliveries.id = i.id`)
})

const pendingUntil = (sql: StoreSession["sql"], now: Fragment, lease: number) =>
  sql`CASE WHEN i.held = 1 THEN ${now} ELSE ${now} + ${sql.literal(String(lease))} END`

const ownerOf = (sql: StoreSession["sql"], owner: string) => sql`CASE WHEN i.held = 1 THEN NULL ELSE ${owner} END`
