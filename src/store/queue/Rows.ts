/** Turns deliveries and settlements into rows for the statements that write them. */
import { type BulkRow, storable } from "../Dialect.ts"
import type { NewDelivery } from "../contract/Queue.ts"
import type { NumberedSettlement, StoredAttempt } from "../contract/Row.ts"

export const deliveryColumns = {
  id: "text",
  guid: "text",
  hook_id: "text",
  body_hash: "text",
  request_id: "text",
  event: "text",
  method: "text",
  target: "text",
  body_length: "bigint"
} as const

export const deliveryRow = (delivery: NewDelivery): BulkRow => ({
  id: delivery.id,
  guid: delivery.guid === undefined ? undefined : nameOf(delivery.guid),
  hook_id: nameOf(delivery.hookId),
  body_hash: delivery.bodyHash,
  request_id: delivery.requestId,
  event: delivery.event === undefined ? undefined : nameOf(delivery.event),
  method: delivery.method,
  target: storable(delivery.target),
  body_length: bodyLengthOf(delivery)
})

export const bodyLengthOf = ({ body }: NewDelivery): number => body.reduce((sum, { length }) => sum + length, 0)

/** The text that two deliveries share if one is a redelivery of the other. */
export const fingerprint = (delivery: NewDelivery): string | undefined =>
  delivery.guid === undefined ? undefined : `${nameOf(delivery.guid)}\n${nameOf(delivery.hookId)}\n${delivery.bodyHash}`

export const payloadColumns = { id: "text", headers: "text", body: "bytes" } as const

export const payloadRow = (delivery: NewDelivery): BulkRow => ({
  id: delivery.id,
  headers: JSON.stringify(delivery.headers),
  body: delivery.body
})

export const targetColumns = { id: "text", key: "text", url: "text", held: "bigint" } as const

export const targetRows = ({ id, targets }: NewDelivery): ReadonlyArray<BulkRow> =>
  targets.map(({ held, key, url }) => ({ id, key, url, held: held ? 1 : 0 }))

export const settlementColumns = {
  id: "text",
  key: "text",
  state: "text",
  delay: "bigint",
  attempts: "bigint",
  first_at: "bigint",
  last_at: "bigint",
  first_n: "bigint",
  last_n: "bigint",
  outcome: "text"
} as const

export const firstSuccessColumns = {
  id: "text",
  key: "text",
  at: "bigint",
  n: "bigint",
  status: "bigint",
  latency: "double precision"
} as const

/**
 * First attempts that only deliver their rows, and all other settlements. The settlements of one row are all in one of
 * the two.
 */
export const firstSuccessesOf = (settlements: ReadonlyArray<NumberedSettlement>): {
  readonly successes: ReadonlyArray<NumberedSettlement>
  readonly others: ReadonlyArray<NumberedSettlement>
} => {
  const ofRow = new Map<string, NumberedSettlement>()
  const others: Array<NumberedSettlement> = []
  const several = new Set<string>()
  for (const settlement of settlements) {
    const name = nameOfRow(settlement)
    if (ofRow.has(name)) several.add(name)
    ofRow.set(name, settlement)
  }
  const successes: Array<readonly [string, NumberedSettlement]> = []
  for (const settlement of settlements) {
    const name = nameOfRow(settlement)
    if (isFirstSuccess(settlement) && !several.has(name)) successes.push([name, settlement])
    else others.push(settlement)
  }
  return { successes: successes.toSorted(byName).map(([, settlement]) => settlement), others }
}

const isFirstSuccess = ({ attempt, become, isFirst }: NumberedSettlement): boolean =>
  isFirst === true && become === "delivered" && attempt?.outcome === "delivered" && attempt.error === undefined &&
  attempt.answer === undefined

const nameOfRow = ({ id, key }: NumberedSettlement): string => `${id}\n${key}`

export const firstSuccessRow = ({ attempt, id, key, n }: NumberedSettlement): BulkRow => ({
  id,
  key,
  at: timeOf(attempt!),
  n,
  status: attempt!.status,
  latency: attempt!.latency
})

/** One row for each row of the store, with the result of applying its settlements one after the other. */
export const settlementRows = (settlements: ReadonlyArray<NumberedSettlement>): ReadonlyArray<SettlementRow> => {
  const rows = new Map<string, SettlementRow>()
  for (const settlement of settlements) {
    const { attempt, become, id, key, n } = settlement
    const name = nameOfRow(settlement)
    const before = rows.get(name)
    const state = typeof become === "string" ? become : "pending"
    const delay = typeof become === "string" ? 0 : become.retryIn
    const stays = before !== undefined && before.state !== "pending" && (state === "pending" || state === "dead")
    const at = attempt === undefined ? [] : [timeOf(attempt)]
    rows.set(name, {
      id,
      key,
      state: stays ? before.state : state,
      delay: stays ? before.delay : Math.max(0, Math.round(delay)),
      attempts: (before?.attempts ?? 0) + at.length,
      // The bounds of the attempts. Without attempts the range is empty.
      first_at: Math.min(before?.first_at ?? Number.MAX_SAFE_INTEGER, ...at),
      last_at: Math.max(before?.last_at ?? 0, ...at),
      first_n: Math.min(before?.first_n ?? n, n),
      last_n: Math.max(before?.last_n ?? n, n),
      outcome: attempt?.outcome ?? before?.outcome ?? null
    })
  }
  return [...rows.entries()].toSorted(byName).map(([, row]) => row)
}

/** All processes lock rows in the same order. Otherwise two replicas could wait for each other. */
const byName = ([one]: readonly [string, unknown], [other]: readonly [string, unknown]) =>
  one < other ? -1 : one > other ? 1 : 0

interface SettlementRow extends BulkRow {
  readonly id: string
  readonly key: string
  readonly state: string
  readonly delay: number
  readonly attempts: number
  readonly first_at: number
  readonly last_at: number
  readonly first_n: number
  readonly last_n: number
  readonly outcome: string | null
}

export const attemptColumns = {
  id: "text",
  key: "text",
  at: "bigint",
  n: "bigint",
  outcome: "text",
  status: "bigint",
  latency: "double precision",
  error: "text",
  answer: "text"
} as const

export const attemptRows = (settlements: ReadonlyArray<NumberedSettlement>): ReadonlyArray<BulkRow> =>
  settlements.flatMap(({ attempt, id, key, n }) =>
    attempt === undefined ? [] : [{
      id,
      key,
      at: timeOf(attempt),
      n,
      outcome: attempt.outcome,
      status: attempt.status,
      latency: attempt.latency,
      error: attempt.error === undefined ? undefined : storable(attempt.error),
      answer: attempt.answer === undefined ? undefined : storable(attempt.answer)
    }]
  )

/** The deliveries of which a row may have ended, so that pruning looks at them again. */
export const endedRows = (rows: ReadonlyArray<SettlementRow>): ReadonlyArray<BulkRow> =>
  [...new Set(rows.flatMap(({ id, state }) => state === "pending" ? [] : [id]))].map((id) => ({ id }))

const timeOf = ({ at }: StoredAttempt): number => Math.round(at)

/**
 * A text by which deliveries are found. It is cut, because an index takes only a few kilobytes and headers come from
 * outside.
 */
export const nameOf = (text: string): string => storable(text.slice(0, 200))
