/**
 * The statements that write deliveries and settlements. Each of the first two groups ends in a `WHERE` that may be
 * added to.
 */
import type { Fragment } from "effect/sql/Statement"
import type { StoreSession } from "../Session.ts"
import { youngMillis } from "../contract/Row.ts"
import type { Memory } from "./Remembered.ts"
import {
  attemptColumns,
  deliveryColumns,
  firstSuccessColumns,
  payloadColumns,
  settlementColumns,
  targetColumns
} from "./Rows.ts"

const insertDeliveries = ({ bulk, sql }: StoreSession["dialect"], condition: Condition) =>
  bulk(
    deliveryColumns,
    (i, { from }, now) =>
      sql`INSERT INTO deliveries (id, guid, hook_id, body_hash, request_id, event, method, target, received_at,
        body_length, has_payload, stage, stage_at)
      SELECT ${i.id}, ${i.guid}, ${i.hook_id}, ${i.body_hash}, ${i.request_id}, ${i.event}, ${i.method}, ${i.target}, ${now},
        ${i.body_length}, 1, 0, ${now}
      ${from} WHERE ${condition(i, now)}`
  )

/** For a database whose keys tell which deliveries are known: it leaves out those of which something else is remembered. */
export const insertUnlessRemembered = ({ dialect, sql }: StoreSession, { isRemembered }: Memory) =>
  insertDeliveries(dialect, (i, now) => sql`NOT ${isRemembered(i, now)}`)

/** For deliveries that are not known yet. */
export const inserts = ({ dialect, lease, owner, sql }: StoreSession) => ({
  deliveries: insertDeliveries(dialect, () => sql`true`),
  payloads: dialect.bulk(
    payloadColumns,
    (i, { from }) =>
      sql`INSERT INTO payloads (delivery_id, headers, body) SELECT ${i.id}, ${i.headers}, ${i.body} ${from} WHERE true`
  ),
  rows: dialect.bulk(
    targetColumns,
    (i, { from }, now) =>
      sql`INSERT INTO delivery_rows (delivery_id, backend_key, backend_url, state, since, due_at, owner, tries)
      SELECT ${i.id}, ${i.key}, ${i.url}, 'pending', ${now}, ${pendingUntil(sql, i.held, now, lease)}, ${
        ownerOf(sql, i.held, owner)
      }, 0
      ${from} WHERE true`
  )
})

/**
 * Ends a row that is ours, is young and has had no attempt, and keeps the attempt in the row. Any other row is left to
 * `settling`. Its delivery need not be looked at again, because pruning has not seen it yet.
 */
export const firstSuccess = ({ dialect, owner, sql }: StoreSession) =>
  dialect.bulk(
    firstSuccessColumns,
    (i, { from }, now) =>
      sql`UPDATE delivery_rows SET state = 'delivered', owner = NULL, due_at = ${now}, settled_at = ${now}, tries = 1,
        last_outcome = 'delivered', attempt_at = ${i.at}, attempt_n = ${i.n}, attempt_status = ${i.status},
        attempt_latency = ${i.latency}
      ${from} WHERE delivery_id = ${i.id} AND backend_key = ${i.key} AND state = 'pending' AND owner = ${owner}
        AND tries = 0 AND since > ${now} - ${sql.literal(String(youngMillis))} AND attempt_n IS NULL
        AND NOT EXISTS (SELECT 1 FROM attempts a
          WHERE a.delivery_id = ${i.id} AND a.backend_key = ${i.key} AND a.at = ${i.at} AND a.n = ${i.n})`
  )

export const settling = ({ dialect, owner, sql }: StoreSession) => ({
  rows: dialect.bulk(settlementColumns, (i, { from }, now) => {
    // A process that does not know whether a write happened writes again.
    const known = sql`((SELECT count(*) FROM attempts a WHERE a.delivery_id = ${i.id} AND a.backend_key = ${i.key}
      AND a.at BETWEEN ${i.first_at} AND ${i.last_at} AND a.n BETWEEN ${i.first_n} AND ${i.last_n})
      + CASE WHEN delivery_rows.attempt_n BETWEEN ${i.first_n} AND ${i.last_n} THEN 1 ELSE 0 END)`
    // A row that is somebody else's, or that is settled, is not ours to send again or to give up.
    const taken = sql`${i.state} IN ('delivered', 'rejected')
      OR (delivery_rows.state = 'pending' AND (owner IS NULL OR owner = ${owner} OR due_at <= ${now}))`
    const ifTaken = (value: Fragment, column: string) =>
      sql`CASE WHEN ${taken} THEN ${value} ELSE delivery_rows.${sql.literal(column)} END`
    return sql`UPDATE delivery_rows SET
        tries = tries + ${i.attempts} - CASE WHEN ${i.attempts} > 1 THEN ${known} ELSE 0 END,
        last_outcome = coalesce(${i.outcome}, last_outcome),
        state = ${ifTaken(i.state, "state")},
        owner = ${ifTaken(sql`NULL`, "owner")},
        due_at = ${ifTaken(sql`${now} + ${i.delay}`, "due_at")},
        settled_at = ${ifTaken(sql`CASE WHEN ${i.state} = 'pending' THEN NULL ELSE ${now} END`, "settled_at")}
      ${from} WHERE delivery_id = ${i.id} AND backend_key = ${i.key} AND (${i.attempts} = 0 OR ${i.attempts} > ${known})`
  }),
  attempts: dialect.bulk(
    attemptColumns,
    (i, { from }) =>
      sql`INSERT INTO attempts (delivery_id, backend_key, at, n, outcome, status, latency, error, answer)
      SELECT ${i.id}, ${i.key}, ${i.at}, ${i.n}, ${i.outcome}, ${i.status}, ${i.latency}, ${i.error}, ${i.answer} ${from}
      WHERE EXISTS (SELECT 1 FROM delivery_rows r WHERE r.delivery_id = ${i.id} AND r.backend_key = ${i.key}
        AND (r.attempt_n IS NULL OR r.attempt_n <> ${i.n}))
        ${
        unlessKnown(
          dialect,
          sql`a.delivery_id = ${i.id} AND a.backend_key = ${i.key} AND a.at = ${i.at} AND a.n = ${i.n}`
        )
      }`
  ),
  looks: dialect.bulk(
    { id: "text" },
    (i, { from }, now) =>
      sql`UPDATE deliveries SET stage = 0, stage_at = ${now} ${from}
      WHERE deliveries.id = ${i.id} AND (stage > 0 OR stage_at > ${now})`
  )
})

/**
 * Finds which of the deliveries `asked` are stored, and under which id. One of which something else is remembered has
 * its own id.
 */
export const known = ({ dialect, sql }: StoreSession, memory: Memory | undefined) => {
  const byId = (rows: Fragment) => sql`SELECT i.id AS asked, d.id AS id FROM ${rows} JOIN deliveries d ON d.id = i.id`
  const byFingerprint = (rows: Fragment) =>
    sql`SELECT i.id AS asked, d.id AS id FROM ${rows}
      JOIN deliveries d ON d.guid = i.guid AND d.hook_id = i.hook_id AND d.body_hash = i.body_hash`
  const locked = dialect.forUpdate("wait", "d")
  const named = { guid: sql`i.guid`, hook_id: sql`i.hook_id`, body_hash: sql`i.body_hash` }
  const remembered = (rows: Fragment, now: Fragment) =>
    memory === undefined
      ? sql.literal("")
      : sql` UNION ALL SELECT i.id AS asked, i.id AS id FROM ${rows} WHERE ${memory.isRemembered(named, now)}`
  return {
    byId: dialect.bulk(deliveryColumns, (_, { rows }) => sql`${byId(rows)} ${locked}`),
    byFingerprint: dialect.bulk(deliveryColumns, (_, { rows }) => sql`${byFingerprint(rows)} ${locked}`),
    byEither: dialect.bulk(
      deliveryColumns,
      (_, { rows }, now) => sql`${byId(rows)} UNION ALL ${byFingerprint(rows)}${remembered(rows, now)}`
    )
  }
}

/** For deliveries that are known already. */
export const changes = ({ dialect, lease, owner, sql }: StoreSession) => ({
  stored: dialect.bulk(
    { id: "text" },
    (_, { rows }, now) =>
      sql`SELECT r.delivery_id AS id, r.backend_key AS key, r.state AS state, r.owner AS owner,
        CASE WHEN r.owner IS NOT NULL AND r.due_at > ${now} THEN 1 ELSE 0 END AS is_leased
      FROM ${rows} JOIN delivery_rows r ON r.delivery_id = i.id ${dialect.forUpdate("wait", "r")}`
  ),
  rows: dialect.bulk(
    targetColumns,
    (i, { from }, now) =>
      sql`INSERT INTO delivery_rows (delivery_id, backend_key, backend_url, state, since, due_at, owner, tries)
      SELECT ${i.id}, ${i.key}, ${i.url}, 'pending', ${now}, ${pendingUntil(sql, i.held, now, lease)}, ${
        ownerOf(sql, i.held, owner)
      }, 0
      ${from} WHERE true
      ON CONFLICT (delivery_id, backend_key) DO UPDATE SET backend_url = excluded.backend_url,
        state = excluded.state, since = excluded.since, due_at = excluded.due_at, owner = excluded.owner,
        tries = 0, settled_at = NULL`
  ),
  payloads: dialect.bulk(
    payloadColumns,
    (i, { from }) =>
      sql`INSERT INTO payloads (delivery_id, headers, body) SELECT ${i.id}, ${i.headers}, ${i.body} ${from} WHERE true
      ON CONFLICT (delivery_id) DO UPDATE SET headers = excluded.headers, body = excluded.body`
  ),
  deliveries: dialect.bulk(
    { id: "text" },
    (i, { from }, now) =>
      sql`UPDATE deliveries SET has_payload = 1, stage = 0, stage_at = ${now} ${from} WHERE deliveries.id = ${i.id}`
  )
})

type Condition = (i: { readonly [Column in keyof typeof deliveryColumns]: Fragment }, now: Fragment) => Fragment

/** SQLite notices by itself, and sooner, because nothing is added to its statement. */
const unlessKnown = ({ kind, sql }: StoreSession["dialect"], isSame: Fragment) =>
  kind === "sqlite" ? sql`ON CONFLICT DO NOTHING` : sql`AND NOT EXISTS (SELECT 1 FROM attempts a WHERE ${isSame})`

const pendingUntil = (sql: StoreSession["sql"], held: Fragment, now: Fragment, lease: number) =>
  sql`CASE WHEN ${held} = 1 THEN ${now} ELSE ${now} + ${sql.literal(String(lease))} END`

const ownerOf = (sql: StoreSession["sql"], held: Fragment, owner: string) =>
  sql`CASE WHEN ${held} = 1 THEN NULL ELSE ${owner} END`
