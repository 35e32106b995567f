/** A filter, as conditions on a delivery `d` and its row `r`. */
import type { StoreDialect } from "../Dialect.ts"
import type { DeliveryFilter } from "../contract/Operator.ts"
import type { RowState } from "../contract/Row.ts"

export const make = ({ now, sql }: StoreDialect) => ({
  ofDelivery: ({ age, event, guid, since }: DeliveryFilter) => [
    ...(event === undefined ? [] : [sql`d.event = ${event}`]),
    ...(guid === undefined ? [] : [sql`d.guid = ${guid}`]),
    ...receivedSince(sql, now, since, age)
  ],
  /** Undefined if the filter has no time. */
  received: ({ age, since }: DeliveryFilter) =>
    since === undefined && age === undefined ? undefined : sql.and(receivedSince(sql, now, since, age)),
  /** States are written as in the conditions of the partial indexes, so that those are used. */
  ofRow: ({ backend, state }: DeliveryFilter) => [
    ...(state === undefined ? [] : [sql`r.state = ${sql.literal(`'${state}'`)}`]),
    ...(isFailed(state) ? [sql`r.state IN ('rejected', 'dead', 'cancelled')`] : []),
    ...(backend === undefined ? [] : [sql`r.backend_key = ${backend}`])
  ]
})

const receivedSince = (
  sql: StoreDialect["sql"],
  now: StoreDialect["now"],
  since: number | undefined,
  age: number | undefined
) => [
  ...(since === undefined ? [] : [sql`d.received_at >= ${since}`]),
  ...(age === undefined ? [] : [sql`d.received_at >= ${now()} - ${sql.literal(String(Math.round(age)))}`])
]

/** Rows in these states have indexes of their own. */
export const isFailed = (state: RowState | undefined): boolean =>
  state === "rejected" || state === "dead" || state === "cancelled"
