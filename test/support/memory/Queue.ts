/** The queue of a store in memory. */
import * as Effect from "effect/Effect"
import type { Claimed, DeliveryQueue, NewDelivery, Recorded, RowTarget } from "../../../src/store/contract/Queue.ts"
import type { NumberedSettlement } from "../../../src/store/contract/Row.ts"
import type { Delivery, Replica, Row } from "./Database.ts"
import { arrives, takeFallback } from "./Recovery.ts"
import { askFor, end, isDue, isUnderWay, newestFirst, newRow, rowsOf } from "./Rows.ts"

export const queue = ({ database, lease, owner }: Replica): DeliveryQueue => {
  const { deliveries } = database

  const write = (now: number, delivery: NewDelivery): Recorded => {
    const known = deliveries.get(delivery.id)
    if (known !== undefined) {
      const owned = [...known.rows.values()].filter((row) => isUnderWay(row, now) && row.owner === owner)
      return { id: known.id, isRedelivery: false, owned: owned.map(({ key }) => key) }
    }
    const isAnswer = arrives(database, now, delivery)
    const fallback = takeFallback(database, delivery)
    const earlier = delivery.guid === undefined
      ? undefined
      : newestFirst(deliveries).find((stored) => isSame(stored, delivery))
    if (earlier !== undefined) return writeAgain(now, delivery, earlier, isAnswer)
    const { body, bodyHash, headers, targets, ...head } = delivery
    const stored: Delivery = {
      id: delivery.id,
      bodyHash,
      bodyLength: Buffer.concat(body).length,
      receivedAt: now,
      head,
      content: { headers: [...headers], body: Buffer.concat(body) },
      rows: new Map()
    }
    deliveries.set(delivery.id, stored)
    for (const { key, url } of targets) {
      const state = fallback?.get(key)
      if (state !== undefined) {
        stored.rows.set(key, { ...newRow(key), url, since: now, dueAt: now, state, settledAt: now })
      }
    }
    return { id: delivery.id, isRedelivery: false, owned: begin(now, stored, toSend(now, stored, targets, isAnswer)) }
  }

  const writeAgain = (
    now: number,
    { body, headers, targets }: NewDelivery,
    earlier: Delivery,
    isAnswer: boolean
  ): Recorded => {
    const idle = toSend(now, earlier, targets, isAnswer)
    if (idle.length > 0) earlier.content = { headers: [...headers], body: Buffer.concat(body) }
    return { id: earlier.id, isRedelivery: true, owned: begin(now, earlier, idle) }
  }

  /** Makes rows pending. Those of this process are owned at once. */
  const begin = (now: number, delivery: Delivery, targets: ReadonlyArray<RowTarget>): ReadonlyArray<string> => {
    for (const { held, key, url } of targets) {
      const row = delivery.rows.get(key) ?? newRow(key)
      delivery.rows.set(key, row)
      row.url = url
      askFor(row, now)
      if (!held) take(row, now)
    }
    return targets.filter(({ held }) => !held).map(({ key }) => key)
  }

  const take = (row: Row, now: number) => {
    row.owner = owner
    row.dueAt = now + lease
  }

  const settle = (now: number, { attempt, become, id, key, n }: NumberedSettlement) => {
    const row = deliveries.get(id)?.rows.get(key)
    if (row === undefined) return
    if (attempt !== undefined) {
      if (row.numbers.has(n)) return
      row.numbers.add(n)
      row.attempts.push(attempt)
      row.tries += 1
      row.lastOutcome = attempt.outcome
    }
    const isOurs = row.state === "pending" && (row.owner === owner || !isUnderWay(row, now))
    if (!isOurs && become !== "delivered" && become !== "rejected") return
    if (typeof become === "string") end(row, become, now)
    else {
      row.owner = undefined
      row.dueAt = now + become.retryIn
    }
  }

  return {
    write: (batch) =>
      database.operation((now) => {
        const recorded = batch.deliveries.map((delivery) => write(now, delivery))
        for (const settlement of batch.settlements) settle(now, settlement)
        return recorded
      }),
    due: (keys) =>
      database.operation((now) => {
        const due = new Set(rowsOf(deliveries).filter(([, row]) => isDue(row, now)).map(([, { key }]) => key))
        return keys.filter((key) => due.has(key))
      }),
    claim: (key, limit, order) =>
      Effect.andThen(
        database.beforeClaim(key),
        database.operation((now): ReadonlyArray<Claimed> => {
          const due = rowsOf(deliveries)
            .filter(([, row]) => row.key === key && isDue(row, now) && (order === "oldest" || row.owner === undefined))
            .toSorted(([one, a], [other, b]) =>
              order === "oldest" ? a.dueAt - b.dueAt || (one.id < other.id ? -1 : 1) : one.id < other.id ? 1 : -1
            )
            .slice(0, limit)
          for (const [, row] of due) take(row, now)
          return due.map(([{ bodyLength, id }, { since, tries }]) => ({
            id,
            key,
            tries,
            age: Math.max(0, now - since),
            bodyLength
          }))
        })
      ),
    load: (id) =>
      Effect.andThen(
        Effect.suspend(() => database.beforeLoad),
        database.operation(() => {
          const delivery = deliveries.get(id)
          return delivery?.content && { ...delivery.head, receivedAt: delivery.receivedAt, ...delivery.content }
        })
      ),
    release: database.operation((now) => {
      for (const [, row] of rowsOf(deliveries)) {
        if (row.state !== "pending" || row.owner !== owner) continue
        row.owner = undefined
        row.dueAt = now
      }
    })
  }
}

/**
 * Whether the backend has the delivery. A rejected one counts: GitHub is told success, because sending it again would
 * not help.
 */
const has = (row: Row | undefined): boolean => row?.state === "delivered" || row?.state === "rejected"

/** The backends that a delivery goes to. */
const toSend = (now: number, { rows }: Delivery, targets: ReadonlyArray<RowTarget>, isAnswer: boolean) => {
  const lacking = targets.filter(({ key }) => !has(rows.get(key)))
  return (lacking.length === 0 && !isAnswer ? targets : lacking).filter(({ key }) => {
    const row = rows.get(key)
    // Dead rows were given up, perhaps because they may have arrived. They are sent again only if somebody asks.
    return row === undefined || (!isUnderWay(row, now) && !(isAnswer && row.state === "dead"))
  })
}

const isSame = (stored: Delivery, { bodyHash, guid, hookId }: NewDelivery): boolean =>
  stored.head.guid === guid && stored.head.hookId === hookId && stored.bodyHash === bodyHash
