/**
 * What the store tells about deliveries.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Fragment } from "effect/sql/Statement"
import {
  type BackendBacklog,
  type DeliveryFilter,
  type DeliveryView,
  type Page,
  type RowState,
  type RowView,
  type StoredAttempt,
  type StoredDelivery,
  StoreUnavailable
} from "./DeliveryStore.ts"
import type { Outcome } from "./Outcome.ts"
import * as StoreFilters from "./StoreFilters.ts"
import type { StoreSession } from "./StoreSession.ts"

export const make = (session: StoreSession) => {
  const { dialect, sql } = session
  const { isRare, ofDelivery, ofRow } = StoreFilters.make(sql)

  const load = (id: string) =>
    Effect.flatMap(
      sql<
        LoadedRow
      >`SELECT d.id AS id, d.request_id AS request_id, d.hook_id AS hook_id, d.guid AS guid, d.event AS event,
          d.method AS method, d.target AS target, d.received_at AS received_at, d.body_length AS body_length, p.headers AS headers, p.body AS body
        FROM deliveries d JOIN payloads p ON p.delivery_id = d.id WHERE d.id = ${id}`,
      ([row]): Effect.Effect<StoredDelivery | undefined, StoreUnavailable> => {
        if (row === undefined) return Effect.undefined
        const headers = headersOf(row.headers)
        if (headers === undefined) return spoilt("its headers can't be read")
        if (row.body.byteLength !== row.body_length) return spoilt("its body is not whole")
        return Effect.succeed({
          id: row.id,
          requestId: row.request_id,
          hookId: row.hook_id,
          guid: row.guid ?? undefined,
          event: row.event ?? undefined,
          method: row.method,
          target: row.target,
          headers,
          body: ownBuffer(row.body),
          receivedAt: row.received_at
        })
      }
    )

  const usage = Effect.map(
    sql.onDialectOrElse({
      // Once pages were in use the file keeps them: what counts is what is in use now.
      orElse: () =>
        sql<{ readonly bytes: number }>`SELECT (p.page_count - f.freelist_count) * s.page_size AS bytes
          FROM pragma_page_count() p, pragma_freelist_count() f, pragma_page_size() s`,
      // The tables' size would not shrink before a vacuum; rows, attempts, headers and indexes are estimated.
      pg: () =>
        sql<{ readonly bytes: number }>`SELECT coalesce(sum(CASE WHEN has_payload = 1
          THEN body_length + ${sql.literal(String(recordBytes + headerBytes))}
          ELSE ${sql.literal(String(recordBytes))} END), 0)::bigint AS bytes FROM deliveries`
    }),
    ([row]) => row!.bytes
  )

  const backlogs = Effect.gen(function*() {
    const pending = yield* sql<{ readonly key: string; readonly n: number; readonly age: number }>`
      SELECT backend_key AS key, count(*) AS n, ${dialect.now()} - min(since) AS age
      FROM delivery_rows ${dialect.using("delivery_rows_pending")} WHERE state = 'pending' GROUP BY backend_key`
    const dead = yield* sql<{ readonly key: string; readonly n: number }>`SELECT backend_key AS key, count(*) AS n
      FROM delivery_rows ${dialect.using("delivery_rows_failed")}
      WHERE state IN ('rejected', 'dead', 'cancelled') AND state = 'dead' GROUP BY backend_key`
    const byKey = new Map<string, BackendBacklog>()
    for (const { age, key, n } of pending) byKey.set(key, { key, pending: n, dead: 0, oldestAge: Math.max(0, age) })
    for (const { key, n } of dead) {
      byKey.set(key, { ...(byKey.get(key) ?? { key, pending: 0, oldestAge: undefined }), dead: n })
    }
    return [...byKey.values()]
  })

  /** What is rare is looked up in its index, and else the newest deliveries are looked through. */
  const matching = (filter: DeliveryFilter, after: string | undefined, limit: number): Fragment => {
    const rows = ofRow(filter)
    if (rows.length === 0) return sql`1 = 1`
    if (!isRare(filter)) {
      return sql`EXISTS (SELECT 1 FROM delivery_rows r WHERE r.delivery_id = d.id AND ${sql.and(rows)})`
    }
    const before = after === undefined ? rows : [...rows, sql`r.delivery_id < ${after}`]
    const newest = ofDelivery(filter).length > 0
      ? sql.literal("")
      : sql`ORDER BY r.delivery_id DESC LIMIT ${sql.literal(String(limit))}`
    return sql`d.id IN (SELECT DISTINCT r.delivery_id FROM delivery_rows r WHERE ${sql.and(before)} ${newest})`
  }

  const views = Effect.fnUntraced(function*(deliveries: ReadonlyArray<DeliveryRow>) {
    const rows = yield* sql<StoredRow>`SELECT r.delivery_id AS id, r.backend_key AS key, r.backend_url AS url,
        r.state AS state, r.since AS since, r.tries AS tries, r.due_at AS due_at, r.last_outcome AS last_outcome,
        r.settled_at AS settled_at,
        CASE WHEN r.state = 'pending' AND r.owner IS NOT NULL AND r.due_at > ${dialect.now()} THEN 1 ELSE 0 END AS under_way
      FROM ${dialect.strings(deliveries.map(({ id }) => id))} JOIN delivery_rows r ON r.delivery_id = i.value
      ORDER BY r.delivery_id, r.backend_key`
    const byId = Map.groupBy(rows, ({ id }) => id)
    return deliveries.map((delivery) => deliveryView(delivery, byId.get(delivery.id) ?? []))
  })

  const list = Effect.fnUntraced(function*(
    filter: DeliveryFilter,
    { after, limit }: { readonly limit: number; readonly after?: string | undefined }
  ): Effect.fn.Return<Page, any> {
    const conditions = [
      ...(after === undefined ? [] : [sql`d.id < ${after}`]),
      ...ofDelivery(filter),
      matching(filter, after, limit + 1)
    ]
    const found = yield* sql<DeliveryRow>`SELECT ${sql.literal(deliveryFields)} FROM deliveries d
      WHERE ${sql.and(conditions)} ORDER BY d.id DESC LIMIT ${sql.literal(String(limit + 1))}`
    const page = found.slice(0, limit)
    return { deliveries: yield* views(page), next: found.length > limit ? page.at(-1)?.id : undefined }
  })

  const show = Effect.fnUntraced(function*(guid: string) {
    const found = yield* sql<DeliveryRow>`SELECT ${sql.literal(deliveryFields)} FROM deliveries d
      WHERE d.guid = ${guid} OR d.id = ${guid} ORDER BY d.id DESC`
    const attempts = yield* sql<AttemptRow>`SELECT a.delivery_id AS id, a.backend_key AS key, a.at AS at,
        a.outcome AS outcome, a.status AS status, a.latency AS latency, a.error AS error, a.answer AS answer
      FROM ${dialect.strings(found.map(({ id }) => id))} JOIN attempts a ON a.delivery_id = i.value
      ORDER BY a.at, a.n`
    const byId = Map.groupBy(attempts, ({ id }) => id)
    return (yield* views(found)).map((view) =>
      Object.assign(view, { attempts: (byId.get(view.id) ?? []).map(attemptOf) })
    )
  })

  return { load, usage, backlogs, list, show }
}

const recordBytes = 2_048
const headerBytes = 2_048

const deliveryFields = `d.id AS id, d.request_id AS request_id, d.hook_id AS hook_id, d.guid AS guid, d.event AS event,
  d.received_at AS received_at, d.body_length AS body_length, d.has_payload AS has_payload`

interface DeliveryRow {
  readonly id: string
  readonly request_id: string
  readonly hook_id: string
  readonly guid: string | null
  readonly event: string | null
  readonly received_at: number
  readonly body_length: number
  readonly has_payload: number
}

interface LoadedRow extends DeliveryRow {
  readonly method: string
  readonly target: string
  readonly headers: string
  readonly body: Uint8Array
}

interface StoredRow {
  readonly id: string
  readonly key: string
  readonly url: string
  readonly state: RowState
  readonly since: number
  readonly tries: number
  readonly due_at: number
  readonly under_way: number
  readonly last_outcome: Outcome | null
  readonly settled_at: number | null
}

interface AttemptRow {
  readonly id: string
  readonly key: string
  readonly at: number
  readonly outcome: Outcome
  readonly status: number | null
  readonly latency: number
  readonly error: string | null
  readonly answer: string | null
}

const deliveryView = (delivery: DeliveryRow, rows: ReadonlyArray<StoredRow>): DeliveryView => ({
  id: delivery.id,
  requestId: delivery.request_id,
  hookId: delivery.hook_id,
  guid: delivery.guid ?? undefined,
  event: delivery.event ?? undefined,
  receivedAt: delivery.received_at,
  bodyLength: delivery.body_length,
  hasBody: delivery.has_payload === 1,
  rows: rows.map((row): RowView => ({
    key: row.key,
    url: row.url,
    state: row.state,
    since: row.since,
    tries: row.tries,
    dueAt: row.state === "pending" ? row.due_at : undefined,
    underWay: row.under_way === 1,
    lastOutcome: row.last_outcome ?? undefined,
    settledAt: row.settled_at ?? undefined
  }))
})

const attemptOf = ({ answer, at, error, key, latency, outcome, status }: AttemptRow): StoredAttempt & {
  readonly key: string
} => ({
  key,
  at,
  outcome,
  status: status ?? undefined,
  latency,
  error: error ?? undefined,
  answer: answer ?? undefined
})

const spoilt = (reason: string) => Effect.fail(new StoreUnavailable({ reason, fault: "content" }))

/** What the parser says of a text that it can't read would show some of it. */
const headersOf = (text: string): ReadonlyArray<string> | undefined =>
  Result.getOrUndefined(Result.filterOrFail(
    Result.try((): unknown => JSON.parse(text)),
    (headers): headers is Array<string> => Array.isArray(headers) && headers.every((part) => typeof part === "string"),
    () => undefined
  ))

/** PostgreSQL's client hands out parts of what it has read. */
const ownBuffer = (bytes: Uint8Array): Buffer =>
  bytes.byteLength === bytes.buffer.byteLength
    ? Buffer.from(bytes.buffer, 0, bytes.byteLength)
    : Buffer.from(bytes)
