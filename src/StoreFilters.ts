/**
 * A filter as conditions on a delivery `d` and its row `r`.
 */
import type { SqlClient } from "effect/sql/SqlClient"
import type { Fragment } from "effect/sql/Statement"
import type { DeliveryFilter, RowState } from "./DeliveryStore.ts"

export const make = (sql: SqlClient) => ({
  ofDelivery: ({ event, guid, since }: DeliveryFilter): ReadonlyArray<Fragment> => [
    ...(event === undefined ? [] : [sql`d.event = ${event}`]),
    ...(guid === undefined ? [] : [sql`d.guid = ${guid}`]),
    ...(since === undefined ? [] : [sql`d.received_at >= ${since}`])
  ],
  /** States as they stand in the partial indexes' conditions, so that these are used. */
  ofRow: ({ backend, state }: DeliveryFilter): ReadonlyArray<Fragment> => [
    ...(state === undefined ? [] : [sql`r.state = ${sql.literal(`'${state}'`)}`]),
    ...(state !== undefined && failedStates.has(state) ? [sql`r.state IN ('rejected', 'dead', 'cancelled')`] : []),
    ...(backend === undefined ? [] : [sql`r.backend_key = ${backend}`])
  ],
  /** Its rows are found by an index. */
  isRare: ({ state }: DeliveryFilter): boolean =>
    state === "pending" || (state !== undefined && failedStates.has(state))
})

const failedStates = new Set<RowState>(["rejected", "dead", "cancelled"])
