/** Decides what becomes of the rows of deliveries that may be known already. */
import type { BulkRow } from "../Dialect.ts"
import type { NewDelivery, Recorded, RowTarget } from "../contract/Queue.ts"
import type { RowState } from "../contract/Row.ts"
import type { Remembered } from "./Remembered.ts"
import { fingerprint } from "./Rows.ts"

/** A row of a delivery that is stored already. */
export interface KnownRow {
  readonly id: string
  readonly key: string
  readonly state: RowState
  readonly owner: string | null
  /** 1 if somebody owns the row, and the lease has not ended. */
  readonly is_leased: number
}

/** What is to be written for deliveries of which some are known. */
export interface RecordingPlan {
  /** In the order of the deliveries. */
  readonly recorded: ReadonlyArray<Recorded>
  readonly fresh: ReadonlyArray<NewDelivery>
  /** Rows that become pending, both new and old ones. */
  readonly rows: ReadonlyArray<BulkRow>
  /** Deliveries that were received anew, each with the `id` of the stored delivery. */
  readonly received: ReadonlyArray<{ readonly id: string; readonly delivery: NewDelivery }>
  /** Rows of fresh deliveries that had their end before the delivery came here, with its `state`. */
  readonly ended: ReadonlyArray<BulkRow>
}

interface Row {
  readonly state: RowState
  readonly owner: string | null
  readonly isLeased: boolean
}

/**
 * `ids` gives the stored delivery for each delivery's own id, and `remembered` is by those too. One batch may hold a
 * delivery and its redelivery.
 */
export const planOf = (
  owner: string,
  deliveries: ReadonlyArray<NewDelivery>,
  ids: ReadonlyMap<string, string>,
  known: ReadonlyArray<KnownRow>,
  remembered: ReadonlyMap<string, Remembered>
): RecordingPlan => {
  const rows = new Map<string, Map<string, Row>>()
  for (const { id, is_leased, key, state, ...row } of known) {
    const ofDelivery = rows.get(id) ?? new Map<string, Row>()
    ofDelivery.set(key, { state, owner: row.owner, isLeased: is_leased === 1 })
    rows.set(id, ofDelivery)
  }
  const fresh: Array<NewDelivery> = []
  const freshIds = new Map<string, string>()
  const changed = new Map<string, BulkRow>()
  const received = new Map<string, NewDelivery>()
  const ended: Array<BulkRow> = []

  const own = (held: boolean): Row => ({ state: "pending", owner: held ? null : owner, isLeased: !held })

  const recorded = deliveries.map((delivery): Recorded => {
    const { id: ownId, targets } = delivery
    const print = fingerprint(delivery)
    const id = ids.get(ownId) ?? freshIds.get(ownId) ?? (print === undefined ? undefined : freshIds.get(print))
    const { ends, isAnswer = false }: Partial<Remembered> = remembered.get(ownId) ?? {}
    if (id === undefined) {
      fresh.push(delivery)
      freshIds.set(ownId, ownId)
      if (print !== undefined) freshIds.set(print, ownId)
      const before = new Map<string, Row>()
      for (const { key } of targets) {
        const state = ends?.get(key)
        if (state !== undefined) before.set(key, { state, owner: null, isLeased: false })
      }
      rows.set(ownId, before)
      const sent = toSend(targets, before, isAnswer)
      for (const { held, key } of sent) before.set(key, own(held))
      for (const [key, { state }] of before) if (state !== "pending") ended.push({ id: ownId, key, state })
      return freshlyRecorded(delivery, sent)
    }
    const before = rows.get(id) ?? new Map<string, Row>()
    rows.set(id, before)
    if (id === ownId) {
      const isOwned = (key: string) => before.get(key)?.isLeased === true && before.get(key)?.owner === owner
      return { ...freshlyRecorded(delivery), owned: targets.flatMap(({ key }) => isOwned(key) ? [key] : []) }
    }
    const sent = toSend(targets, before, isAnswer)
    for (const { held, key, url } of sent) {
      before.set(key, own(held))
      changed.set(`${id}\n${key}`, { id, key, url, held: held ? 1 : 0 })
    }
    if (sent.length > 0) received.set(id, delivery)
    return { id, isRedelivery: true, owned: sent.flatMap(({ held, key }) => held ? [] : [key]) }
  })
  return {
    recorded,
    fresh,
    rows: [...changed.values()],
    received: [...received].map(([id, delivery]) => ({ id, delivery })),
    ended
  }
}

/** The record of a delivery that is not known yet. */
export const freshlyRecorded = ({ id, targets }: NewDelivery, sent = targets): Recorded => ({
  id,
  isRedelivery: false,
  owned: sent.flatMap(({ held, key }) => held ? [] : [key])
})

const hasIt = (row: Row | undefined): boolean => row?.state === "delivered" || row?.state === "rejected"

/**
 * The backends that a delivery goes to. If all have it, somebody asked on purpose, and it goes to all. One that comes
 * because we asked GitHub for it only fills gaps. It is not sent where it was given up either: there it may have arrived.
 */
const toSend = (
  targets: ReadonlyArray<RowTarget>,
  before: ReadonlyMap<string, Row>,
  isAnswer: boolean
): ReadonlyArray<RowTarget> => {
  if (!isAnswer && targets.every(({ key }) => hasIt(before.get(key)))) return targets
  return targets.filter(({ key }) => {
    const row = before.get(key)
    return !hasIt(row) && !(row?.state === "pending" && row.isLeased) && !(isAnswer && row?.state === "dead")
  })
}
