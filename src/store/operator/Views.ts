/** Reads deliveries and their rows for operators. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { outcomes } from "../../domain/Outcome.ts"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import {
  type DeliveryFilter,
  type DeliveryView,
  mostShown,
  type Page,
  rowsOnPage,
  type RowView
} from "../contract/Operator.ts"
import type { RecoveryView } from "../contract/Recovery.ts"
import { rowStates, type StoredAttempt } from "../contract/Row.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"
import * as StoreSearch from "./Search.ts"

const deliveryFields = `d.id AS id, d.request_id AS request_id, d.hook_id AS hook_id, d.guid AS guid, d.event AS event,
  d.received_at AS received_at, d.body_length AS body_length, d.has_payload AS has_payload`

const DeliveryRow = Schema.Struct({
  id: Schema.String,
  request_id: Schema.String,
  hook_id: Schema.String,
  guid: Schema.NullOr(Schema.String),
  event: Schema.NullOr(Schema.String),
  received_at: Schema.Finite,
  body_length: Schema.Finite,
  has_payload: Schema.Finite
})
type DeliveryRow = typeof DeliveryRow.Type

const StoredRow = Schema.Struct({
  id: Schema.String,
  key: Schema.String,
  url: Schema.String,
  state: Schema.Literals(rowStates),
  since: Schema.Finite,
  tries: Schema.Finite,
  due_at: Schema.Finite,
  last_outcome: Schema.NullOr(Schema.Literals(outcomes)),
  settled_at: Schema.NullOr(Schema.Finite),
  under_way: Schema.Finite
})

const AttemptRow = Schema.Struct({
  id: Schema.String,
  key: Schema.String,
  at: Schema.Finite,
  outcome: Schema.Literals(outcomes),
  status: Schema.NullOr(Schema.Finite),
  latency: Schema.Finite,
  error: Schema.NullOr(Schema.String),
  answer: Schema.NullOr(Schema.String)
})

const deliveryRows = Question.rowsOf(DeliveryRow)
const storedRows = Question.rowsOf(StoredRow)
const attemptRows = Question.rowsOf(AttemptRow)
/** Reads the recoveries of deliveries, by their ids. */
export type RecoveriesOf = (
  ids: ReadonlyArray<string>
) => Effect.Effect<ReadonlyMap<string, RecoveryView>, SqlError | StoreUnavailable>

const rowCounts = Question.rowsOf(Schema.Struct({ id: Schema.String, n: Schema.Finite }))

/** `recoveriesOf` gives the recoveries of deliveries by their ids. It is there if recovery is on. */
export const make = (session: StoreSession, recoveriesOf?: RecoveriesOf) => {
  const { dialect, reading, sql } = session
  const search = StoreSearch.make(session)

  const rowsOf = (ids: ReadonlyArray<string>) =>
    storedRows(reading`SELECT r.delivery_id AS id, r.backend_key AS key, r.backend_url AS url,
        r.state AS state, r.since AS since, r.tries AS tries, r.due_at AS due_at, r.last_outcome AS last_outcome,
        r.settled_at AS settled_at,
        CASE WHEN r.state = 'pending' AND r.owner IS NOT NULL AND r.due_at > ${dialect.now()} THEN 1 ELSE 0 END AS under_way
      FROM ${dialect.strings(ids)} JOIN delivery_rows r ON r.delivery_id = i.value
      ORDER BY r.delivery_id DESC, r.backend_key`)

  const views = Effect.fnUntraced(function*(deliveries: ReadonlyArray<DeliveryRow>) {
    const ids = deliveries.map(({ id }) => id)
    const rows = yield* rowsOf(ids)
    const byId = Map.groupBy(rows, ({ id }) => id)
    const recoveries = recoveriesOf === undefined ? undefined : yield* recoveriesOf(ids)
    return deliveries.map((delivery) => {
      const view = deliveryView(delivery, byId.get(delivery.id) ?? [])
      const recovery = recoveries?.get(delivery.id)
      return recovery === undefined ? view : { ...view, recovery }
    })
  })

  /** As many deliveries as have all their rows on one page, and at least one. */
  const fitting = Effect.fnUntraced(function*(deliveries: ReadonlyArray<DeliveryRow>) {
    const counted = yield* rowCounts(reading`SELECT i.value AS id, count(*) AS n
      FROM ${dialect.strings(deliveries.map(({ id }) => id))} JOIN delivery_rows r ON r.delivery_id = i.value
      GROUP BY i.value`)
    const rowsOfId = new Map(counted.map(({ id, n }) => [id, n]))
    let rows = 0
    const end = deliveries.findIndex(({ id }, at) => (rows += rowsOfId.get(id) ?? 0) > rowsOnPage && at > 0)
    return end < 0 ? deliveries : deliveries.slice(0, end)
  })

  const list = Effect.fnUntraced(function*(
    filter: DeliveryFilter,
    { after, limit }: { readonly limit: number; readonly after?: string | undefined }
  ): Effect.fn.Return<Page, SqlError | StoreUnavailable> {
    const { found, reached } = yield* search.deliveries(filter, { after, limit }, deliveryFields, deliveryRows)
    const page = yield* fitting(found.slice(0, limit))
    return { deliveries: yield* views(page), next: found.length > page.length ? page.at(-1)?.id : reached }
  })

  const show = Effect.fnUntraced(function*(guid: string) {
    const found = yield* deliveryRows(reading`SELECT ${sql.literal(deliveryFields)} FROM deliveries d
      WHERE d.guid = ${guid} OR d.id = ${guid} ORDER BY d.id DESC LIMIT ${sql.literal(String(mostShown))}`)
    const shown = dialect.strings(found.map(({ id }) => id))
    const attempts = yield* attemptRows(reading`SELECT a.delivery_id AS id, a.backend_key AS key, a.at AS at, a.n AS n,
        a.outcome AS outcome, a.status AS status, a.latency AS latency, a.error AS error, a.answer AS answer
      FROM ${shown} JOIN attempts a ON a.delivery_id = i.value
      UNION ALL
      SELECT r.delivery_id, r.backend_key, r.attempt_at, r.attempt_n,
        'delivered', r.attempt_status, r.attempt_latency, NULL, NULL
      FROM ${shown} JOIN delivery_rows r ON r.delivery_id = i.value WHERE r.attempt_n IS NOT NULL
      ORDER BY at, n`)
    const byId = Map.groupBy(attempts, ({ id }) => id)
    return (yield* views(found)).map((view) =>
      Object.assign(view, { attempts: (byId.get(view.id) ?? []).map(attemptOf) })
    )
  })

  return { list, show }
}

const deliveryView = (delivery: DeliveryRow, rows: ReadonlyArray<typeof StoredRow.Type>): DeliveryView => ({
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

const attemptOf = ({ answer, at, error, key, latency, outcome, status }: typeof AttemptRow.Type): StoredAttempt & {
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
