/** The upkeep of a store in memory. */
import { longestDelay } from "../../../src/store/contract/Row.ts"
import type { Retention, StoreUpkeep } from "../../../src/store/contract/Upkeep.ts"
import type { Delivery, MemoryDatabase, Replica, Row } from "./Database.ts"
import { pruneRecoveries } from "./Recovery.ts"
import { end, isUnderWay, rowsOf } from "./Rows.ts"

export const upkeep = ({ database, lease }: Replica): StoreUpkeep => {
  const { deliveries } = database
  return {
    probe: database.operation(() => {}),
    usage: database.operation(() => {
      let bytes = 0
      for (const { content } of deliveries.values()) {
        if (content !== undefined) bytes += content.body.length + content.headers.join("").length
      }
      return bytes
    }),
    backlogs: database.operation((now) =>
      [...Map.groupBy(openRowsOf(deliveries), ({ key }) => key)].map(([key, rows]) => {
        const pending = rows.filter(({ state }) => state === "pending")
        return {
          key,
          pending: pending.length,
          dead: rows.filter(({ state }) => state === "dead").length,
          oldestAge: pending.length === 0 ? undefined : Math.max(0, ...pending.map(({ since }) => now - since))
        }
      })
    ),
    prune: (retention, limit) => database.operation((now) => prune(database, retention, { limit, now, lease }))
  }
}

/** The rows that a backend still has to get, or never got. */
const openRowsOf = (deliveries: ReadonlyMap<string, Delivery>): ReadonlyArray<Row> =>
  rowsOf(deliveries).map(([, row]) => row).filter(({ state }) => state === "pending" || state === "dead")

interface Pruning {
  readonly limit: number
  readonly now: number
  readonly lease: number
}

const prune = (database: MemoryDatabase, retention: Retention, { lease, limit, now }: Pruning): boolean => {
  const { deliveries } = database
  // A clock that is behind the latest seen time was set back. Rows that wait would then wait for so much longer.
  const furthest = database.seenAt > now + 5_000 ? 0 : longestDelay
  let looked = 0
  for (const delivery of deliveries.values()) {
    if (looked === limit) return true
    if (pruneDelivery(deliveries, delivery, retention, { furthest, lease, now })) looked += 1
  }
  database.seenAt = now
  return retention.recovery !== undefined && pruneRecoveries(database, { age: retention.recovery, limit, now })
}

/** Prunes one delivery. Says whether there was anything to do. */
const pruneDelivery = (
  deliveries: Map<string, Delivery>,
  delivery: Delivery,
  retention: Retention,
  { furthest, lease, now }: { readonly furthest: number; readonly lease: number; readonly now: number }
): boolean => {
  const rows = [...delivery.rows.values()]
  const pending = rows.filter(({ state }) => state === "pending")
  const tooFar = pending.filter(({ dueAt, owner }) =>
    dueAt > now + (owner === undefined ? furthest : Math.max(furthest, lease))
  )
  for (const row of tooFar) row.dueAt = row.owner === undefined ? now : now + lease
  const tooOld = pending.filter((row) => now - row.since > retention.maxAge && !isUnderWay(row, now))
  for (const row of tooOld) end(row, "dead", now)
  if (tooFar.length > 0 || tooOld.length > 0) return true
  if (pending.length > 0) return false
  const idle = now - Math.max(delivery.receivedAt, ...rows.map(({ settledAt }) => settledAt ?? 0))
  const hasDead = rows.some(({ state }) => state === "dead")
  const isWhole = hasDead ? retention.dead : retention.delivered
  if (idle > Math.max(retention.dead, isWhole, retention.recovery ?? 0)) return deliveries.delete(delivery.id)
  if (idle <= isWhole || delivery.content === undefined) return false
  delivery.content = undefined
  return true
}
