/** The records of a store in memory, which operators see and ask for again. */
import {
  type DeliveryFilter,
  type DeliveryRecords,
  type DeliveryView,
  mostShown,
  type RowName,
  rowsOnPage,
  type RowView
} from "../../../src/store/contract/Operator.ts"
import type { Delivery, Replica, Row } from "./Database.ts"
import { recoveryOf } from "./Recovery.ts"
import { askFor, isDue, isUnderWay, newestFirst, rowsOf } from "./Rows.ts"

export const records = ({ database }: Replica): DeliveryRecords => {
  const { deliveries } = database
  return {
    list: (filter, { after, limit }) =>
      database.operation((now) => {
        const matching = newestFirst(deliveries).filter((delivery) =>
          (after === undefined || delivery.id < after) && matches(delivery, filter, now) &&
          (!isOfRows(filter) || [...delivery.rows.values()].some((row) => matchesRow(row, filter)))
        )
        let rows = 0
        const fits = (delivery: Delivery, at: number) => (rows += delivery.rows.size) <= rowsOnPage || at === 0
        const end = matching.slice(0, limit).findIndex((delivery, at) => !fits(delivery, at))
        const page = matching.slice(0, end < 0 ? limit : end)
        return {
          deliveries: page.map((delivery) => viewOf(delivery, now, recoveryOf(database, delivery.head))),
          next: matching.length > page.length ? page.at(-1)?.id : undefined
        }
      }),
    show: (guid) =>
      database.operation((now) =>
        newestFirst(deliveries).filter(({ head, id }) => head.guid === guid || id === guid).slice(0, mostShown).map(
          (delivery) =>
            Object.assign(viewOf(delivery, now, recoveryOf(database, delivery.head)), {
              attempts: attemptsOf(delivery)
            })
        )
      ),
    redeliver: (filter, limit, after) =>
      database.operation((now) => {
        const matching = rowsOf(deliveries).toSorted(byName).filter(([delivery, row]) =>
          isAfter(delivery.id, row.key, after) && filter.among?.includes(row.key) !== false &&
          delivery.content !== undefined &&
          (filter.id === undefined || delivery.id === filter.id) &&
          matches(delivery, filter, now) && matchesRow(row, filter) && !isUnderWay(row, now) && !isDue(row, now)
        )
        const redelivered = matching.slice(0, limit)
        for (const [, row] of redelivered) {
          if (row.state === "pending") row.dueAt = now
          else askFor(row, now)
        }
        const last = redelivered.at(-1)
        return {
          redelivered: redelivered.length,
          remaining: after === undefined ? matching.length - redelivered.length : undefined,
          next: last === undefined || matching.length <= limit ? undefined : { id: last[0].id, key: last[1].key }
        }
      })
  }
}

const byName = (
  [one, { key: oneKey }]: readonly [Delivery, Row],
  [other, { key: otherKey }]: readonly [Delivery, Row]
) => one.id === other.id ? (oneKey < otherKey ? -1 : 1) : one.id < other.id ? -1 : 1

const isAfter = (id: string, key: string, after: RowName | undefined): boolean =>
  after === undefined || id > after.id || (id === after.id && key > after.key)

const isOfRows = ({ backend, state }: DeliveryFilter): boolean => backend !== undefined || state !== undefined

const matchesRow = (row: Row, { backend, state }: DeliveryFilter): boolean =>
  (backend === undefined || row.key === backend) && (state === undefined || row.state === state)

const matches = ({ head, receivedAt }: Delivery, { age, event, guid, since }: DeliveryFilter, now: number): boolean =>
  (event === undefined || head.event === event) && (guid === undefined || head.guid === guid) &&
  (since === undefined || receivedAt >= since) && (age === undefined || receivedAt >= now - age)

const viewOf = (delivery: Delivery, now: number, recovery: Pick<DeliveryView, "recovery">): DeliveryView => ({
  ...recovery,
  id: delivery.id,
  requestId: delivery.head.requestId,
  hookId: delivery.head.hookId,
  guid: delivery.head.guid,
  event: delivery.head.event,
  receivedAt: delivery.receivedAt,
  bodyLength: delivery.bodyLength,
  hasBody: delivery.content !== undefined,
  rows: [...delivery.rows.values()].map((row): RowView => ({
    key: row.key,
    url: row.url,
    state: row.state,
    since: row.since,
    tries: row.tries,
    dueAt: row.state === "pending" ? row.dueAt : undefined,
    underWay: isUnderWay(row, now),
    lastOutcome: row.lastOutcome,
    settledAt: row.settledAt
  }))
})

const attemptsOf = ({ rows }: Delivery) =>
  [...rows.values()]
    .flatMap(({ attempts, key }) => attempts.map((attempt) => Object.assign({ key }, attempt)))
    .toSorted((a, b) => a.at - b.at)
