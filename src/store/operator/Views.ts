/** Reads deliveries and their rows for operators. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Outcome } from "../../domain/Outcome.ts"
import type { StoreSession } from "../Session.ts"
import {
  type DeliveryFilter,
  type DeliveryView,
  mostShown,
  type Page,
  rowsOnPage,
  type RowView
} from "../contract/Operator.ts"
import type { RowState, StoredAttempt } from "../contract/Row.ts"
import * as StoreSearch from "./Search.ts"

export const make = (session: StoreSession) => {
  const { dialect, reading, sql } = session
  const search = StoreSearch.make(session)

  const rowsOf = (ids: ReadonlyArray<string>) =>
    reading<StoredRow>`SELECT r.delivery_id AS id, r.backend_key AS key, r.backend_url AS url,
        r.state AS state, r.since AS since, r.tries AS tries, r.due_at AS due_at, r.last_outcome AS last_outcome,
        r.settled_at AS settled_at,
        CASE WHEN r.state = 'pending' AND r.owner IS NOT NULL AND r.due_at > ${dialect.now()} THEN 1 ELSE 0 END AS under_way
      FROM ${dialect.strings(ids)} JOIN delivery_rows r ON r.delivery_id = i.value
      ORDER BY r.delivery_id DESC, r.backend_key`

  const views = Effect.fnUntraced(function*(deliveries: ReadonlyArray<DeliveryRow>) {
    const rows = yield* rowsOf(deliveries.map(({ id }) => id))
    const byId = Map.groupBy(rows, ({ id }) => id)
    return deliveries.map((delivery) => deliveryView(delivery, byId.get(delivery.id) ?? []))
  })

  /** As many deliveries as have all their rows on one page, and at least one. */
  const fitting = Effect.fnUntraced(function*(deliveries: ReadonlyArray<DeliveryRow>) {
    const counted = yield* reading<{ readonly id: string; readonly n: number }>`SELECT i.value AS id, count(*) AS n
      FROM ${dialect.strings(deliveries.map(({ id }) => id))} JOIN delivery_rows r ON r.delivery_id = i.value
      GROUP BY i.value`
    const rowsOfId = new Map(counted.map(({ id, n }) => [id, n]))
    let rows = 0
    const end = deliveries.findIndex(({ id }, at) => (rows += rowsOfId.get(id) ?? 0) > rowsOnPage && at > 0)
    return end < 0 ? deliveries : deliveries.slice(0, end)
  })

  const list = Effect.fnUntraced(function*(
    filter: DeliveryFilter,
    { after, limit }: { readonly limit: number; readonly after?: string | undefined }
  ): Effect.fn.Return<Page, SqlError> {
    const { found, reached } = yield* search.deliveries<DeliveryRow>(filter, { after, limit }, deliveryFields)
    const page = yield* fitting(found.slice(0, limit))
    return { deliveries: yield* views(page), next: found.length > page.length ? page.at(-1)?.id : reached }
  })

  const show = Effect.fnUntraced(function*(guid: string) {
    const found = yield* reading<DeliveryRow>`SELECT ${sql.literal(deliveryFields)} FROM deliveries d
      WHERE d.guid = ${guid} OR d.id = ${guid} ORDER BY d.id DESC LIMIT ${sql.literal(String(mostShown))}`
    const shown = dialect.strings(found.map(({ id }) => id))
    const attempts = yield* reading<AttemptRow>`SELECT a.delivery_id AS id, a.backend_key AS key, a.at AS at, a.n AS n,
        a.outcome AS outcome, a.status AS status, a.latency AS latency, a.error AS error, a.answer AS answer
      FROM ${shown} JOIN attempts a ON a.delivery_id = i.value
      UNION ALL
      SELECT r.delivery_id, r.backend_key, r.attempt_at, r.attempt_n,
        'delivered', r.attempt_status, r.attempt_latency, NULL, NULL
      FROM ${shown} JOIN delivery_rows r ON r.delivery_id = i.value WHERE r.attempt_n IS NOT NULL
      ORDER BY at, n`
    const byId = Map.groupBy(attempts, ({ id }) => id)
    return (yield* views(found)).map((view) =>
      Object.assign(view, { attempts: (byId.get(view.id) ?? []).map(attemptOf) })
    )
  })

  return { list, show }
}

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
