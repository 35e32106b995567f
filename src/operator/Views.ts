/**
 * Stored deliveries as an operator sees them. Header values that may be secrets are hidden, and so is a target's query.
 */
import { withoutSecrets } from "../domain/Backend.ts"
import { isoTime } from "../domain/Time.ts"
import { seconds } from "../observability/logs/DeliveryLog.ts"
import type { DeliveryView, Page, RowView } from "../store/contract/Operator.ts"
import type { StoredDelivery } from "../store/contract/Queue.ts"
import type { RecoveryView } from "../store/contract/Recovery.ts"
import type { StoredAttempt } from "../store/contract/Row.ts"
import type { ListAnswer, ListedDelivery, ShownDelivery, Signature } from "./Answers.ts"

/** A delivery with the attempts on its rows. */
export type AttemptedDelivery = DeliveryView & {
  readonly attempts: ReadonlyArray<StoredAttempt & { readonly key: string }>
}

/** The JSON answer for a page of the list. */
export const listAnswer = (page: Page): typeof ListAnswer.Type => ({
  deliveries: page.deliveries.map((view) => ({ ...summary(view), backends: view.rows.map(rowJson) })),
  next: page.next ?? null
})

/** One delivery in full. `stored` is undefined if headers and body are no longer kept. */
export const shownDelivery = (
  view: AttemptedDelivery,
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
  hasBody: view.hasBody,
  ...view.recovery === undefined ? {} : { recovery: recoveryJson(view.recovery) }
})

const recoveryJson = (recovery: RecoveryView): NonNullable<ListedDelivery["recovery"]> => ({
  state: recovery.state,
  failedAt: isoTime(recovery.failedAt),
  requests: recovery.asks,
  askedAt: recovery.askedAt === undefined ? null : isoTime(recovery.askedAt),
  recoveredAt: recovery.recoveredAt === undefined ? null : isoTime(recovery.recoveredAt),
  late: recovery.recoveredAt === undefined ? null : seconds(recovery.recoveredAt - recovery.failedAt),
  reason: recovery.reason ?? null
})

const rowJson = (row: RowView): ListedDelivery["backends"][number] => ({
  url: row.url,
  state: row.state,
  since: isoTime(row.since),
  tries: row.tries,
  dueAt: row.dueAt === undefined ? null : isoTime(row.dueAt),
  underWay: row.underWay,
  lastOutcome: row.lastOutcome ?? null,
  settledAt: row.settledAt === undefined ? null : isoTime(row.settledAt)
})

const attemptJson = (attempt: StoredAttempt): ShownDelivery["backends"][number]["attempts"][number] => ({
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
