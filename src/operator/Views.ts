/**
 * Stored deliveries as an operator sees them: the JSON of `/deliveries`, which the command line reads too.
 *
 * **Details**
 *
 * Times are RFC 3339 in UTC, latencies seconds. Values of headers that may be secrets are not shown, nor is a target's query.
 */
import * as Schema from "effect/Schema"
import { withoutSecrets } from "../domain/Backend.ts"
import { isoTime } from "../domain/Time.ts"
import { seconds } from "../observability/logs/DeliveryLog.ts"
import type { DeliveryView, Page, RowView, StoredAttempt, StoredDelivery } from "../store/DeliveryStore.ts"

const Time = Schema.String
const Row = Schema.Struct({
  url: Schema.String,
  state: Schema.String,
  /** When the present delivering began: the arrival, or when it was last asked for again. */
  since: Time,
  tries: Schema.Finite,
  dueAt: Schema.NullOr(Time),
  underWay: Schema.Boolean,
  lastOutcome: Schema.NullOr(Schema.String),
  settledAt: Schema.NullOr(Time)
})
const Attempt = Schema.Struct({
  /** When it ended. */
  at: Time,
  outcome: Schema.String,
  status: Schema.NullOr(Schema.Finite),
  latency: Schema.Finite,
  answer: Schema.NullOr(Schema.String),
  error: Schema.NullOr(Schema.String)
})
const common = {
  id: Schema.String,
  guid: Schema.NullOr(Schema.String),
  event: Schema.NullOr(Schema.String),
  hookId: Schema.NullOr(Schema.String),
  requestId: Schema.String,
  receivedAt: Time,
  bodyLength: Schema.Finite,
  /** Whether headers and body are still kept. */
  hasBody: Schema.Boolean
}
const Listed = Schema.Struct({ ...common, backends: Schema.Array(Row) })
const Shown = Schema.Struct({
  ...common,
  method: Schema.NullOr(Schema.String),
  target: Schema.NullOr(Schema.String),
  /** Names and values in the order in which they go out. */
  headers: Schema.NullOr(Schema.Array(Schema.Tuple([Schema.String, Schema.String]))),
  /** "no longer valid": it matches none of the secrets of now, so a backend would take the delivery and drop it. */
  signature: Schema.Literals(["valid", "no longer valid", "unchecked"]),
  body: Schema.optionalKey(Schema.String),
  bodyEncoding: Schema.optionalKey(Schema.Literals(["utf8", "base64"])),
  backends: Schema.Array(Schema.Struct({ ...Row.fields, attempts: Schema.Array(Attempt) }))
})

export type ListedDelivery = typeof Listed.Type
export type ShownDelivery = typeof Shown.Type
export type Signature = ShownDelivery["signature"]

/** What `GET /deliveries` answers. `next` is the cursor of the next page; null on the last one. */
export const ListAnswer = Schema.Struct({ deliveries: Schema.Array(Listed), next: Schema.NullOr(Schema.String) })
/** What `GET /deliveries/{guid}` answers. */
export const ShowAnswer = Schema.Struct({ deliveries: Schema.Array(Shown) })
/** What `POST /deliveries/{guid}/redeliver` answers. */
export const RedeliverAnswer = Schema.Struct({ redelivered: Schema.Finite, remaining: Schema.Finite })

/** What `POST /deliveries/redeliver` answers, beside what it took the filter for. `next` is the `cursor` for the rest. */
export const RedeliverAllAnswer = Schema.Struct({
  redelivered: Schema.Finite,
  /** Absent where a cursor was given: what matches is counted once. */
  remaining: Schema.optionalKey(Schema.Finite),
  next: Schema.NullOr(Schema.String)
})

export const listAnswer = (page: Page): typeof ListAnswer.Type => ({
  deliveries: page.deliveries.map((view) => ({ ...summary(view), backends: view.rows.map(rowJson) })),
  next: page.next ?? null
})

/** One delivery in full. `stored` is undefined where headers and body are no longer kept. */
export const shownDelivery = (
  view: DeliveryView & { readonly attempts: ReadonlyArray<StoredAttempt & { readonly key: string }> },
  stored: StoredDelivery | undefined,
  signature: Signature
): ShownDelivery => ({
  ...summary(view),
  method: stored?.method ?? null,
  target: stored === undefined ? null : withoutSecrets(stored.target),
  headers: stored === undefined ? null : shownHeaders(stored.headers),
  signature,
  backends: view.rows.map((row) => ({
    ...rowJson(row),
    attempts: view.attempts.filter(({ key }) => key === row.key).map(attemptJson)
  }))
})

const summary = (view: DeliveryView) => ({
  id: view.id,
  guid: view.guid ?? null,
  event: view.event ?? null,
  hookId: view.hookId === "" ? null : view.hookId,
  requestId: view.requestId,
  receivedAt: isoTime(view.receivedAt),
  bodyLength: view.bodyLength,
  hasBody: view.hasBody
})

const rowJson = (row: RowView): typeof Row.Type => ({
  url: row.url,
  state: row.state,
  since: isoTime(row.since),
  tries: row.tries,
  dueAt: row.dueAt === undefined ? null : isoTime(row.dueAt),
  underWay: row.underWay,
  lastOutcome: row.lastOutcome ?? null,
  settledAt: row.settledAt === undefined ? null : isoTime(row.settledAt)
})

const attemptJson = (attempt: StoredAttempt): typeof Attempt.Type => ({
  at: isoTime(attempt.at),
  outcome: attempt.outcome,
  status: attempt.status ?? null,
  latency: seconds(attempt.latency),
  answer: attempt.answer ?? null,
  error: attempt.error ?? null
})

const shownHeaders = (headers: ReadonlyArray<string>): NonNullable<ShownDelivery["headers"]> => {
  const shown: Array<readonly [string, string]> = []
  for (let at = 0; at + 1 < headers.length; at += 2) {
    shown.push([headers[at]!, secretName.test(headers[at]!) ? "***" : headers[at + 1]!])
  }
  return shown
}

const secretName = /auth|cookie|token|secret|key|pass|signature|credential|session|cert|jwt/i
