/**
 * Writes deliveries and settlements down.
 *
 * **Details**
 *
 * New deliveries and settlements go in one round trip, which is a transaction. Only if a delivery turns out to be known
 * already, nothing of that is kept, and the batch is written in a longer transaction that looks first.
 *
 * Most deliveries are taken by every backend at the first attempt. A settlement that may be of that kind is written as
 * such, in one statement a row. If some row turns out to be another, all those settlements are written again in the way
 * that fits any row. That changes nothing about rows that have theirs already.
 *
 * Settlements of earlier deliveries come after new deliveries: a redelivery still finds an attempt under way.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { BulkRow, BulkRows, StoredParts } from "../Dialect.ts"
import type { StoreSession } from "../Session.ts"
import type { NewDelivery, Recorded } from "../contract/Queue.ts"
import type { NumberedSettlement } from "../contract/Row.ts"
import { freshlyRecorded, planOf } from "./Redelivery.ts"
import * as Rows from "./Rows.ts"
import * as Statements from "./Statements.ts"

export interface Batch {
  readonly deliveries: ReadonlyArray<NewDelivery>
  readonly settlements: ReadonlyArray<NumberedSettlement>
  /** Large bodies that are in the database already, in parts. */
  readonly sent?: ReadonlyMap<NewDelivery, StoredParts>
}

/** What is written in one round trip. */
interface Fresh extends Batch {
  /** Settlements that seem to be of the first attempts on their rows. */
  readonly successes: ReadonlyArray<NumberedSettlement>
}

export const make = (session: StoreSession) => {
  const { dialect, owner, sql } = session
  const inserts = Statements.inserts(session)
  const firstSuccess = Statements.firstSuccess(session)
  const settling = Statements.settling(session)
  const known = Statements.known(session)
  const changes = Statements.changes(session)

  const insertParts = (batch: Batch, deliveries: ReadonlyArray<NewDelivery>): ReadonlyArray<BulkRows> => [
    [inserts.deliveries, deliveries.map(Rows.deliveryRow)],
    [inserts.payloads, deliveries.map((delivery) => payloadRow(batch, delivery))],
    [inserts.rows, deliveries.flatMap(Rows.targetRows)]
  ]
  const settlementParts = (settlements: ReadonlyArray<NumberedSettlement>): ReadonlyArray<BulkRows> => {
    const rows = Rows.settlementRows(settlements)
    return [
      [settling.rows, rows],
      [settling.attempts, Rows.attemptRows(settlements)],
      [settling.looks, Rows.endedRows(rows)]
    ]
  }
  const runEach = Effect.forEach(
    ([bulk, rows]: BulkRows) => rows.length === 0 ? Effect.void : dialect.run(bulk, rows),
    { discard: true }
  )

  const writeLooking = Effect.fnUntraced(function*(batch: Batch) {
    const ids = new Map<string, string>()
    for (const bulk of [known.byFingerprint, known.byId]) {
      const found = yield* dialect.run(bulk, batch.deliveries.map(Rows.deliveryRow))
      for (const { asked, id } of found) ids.set(asked, id)
    }
    const stored = yield* dialect.run(changes.stored, [...new Set(ids.values())].map((id) => ({ id })))
    const plan = planOf(owner, batch.deliveries, ids, stored)
    yield* runEach([
      ...insertParts(batch, plan.fresh),
      [changes.rows, plan.rows],
      [changes.payloads, plan.received.map(({ delivery, id }) => ({ ...payloadRow(batch, delivery), id }))],
      [changes.deliveries, plan.received.map(({ id }) => ({ id }))],
      ...settlementParts(batch.settlements)
    ])
    return plan.recorded
  }, sql.withTransaction)

  /** The successes come first. */
  const parts = (batch: Fresh): ReadonlyArray<BulkRows> => [
    [firstSuccess, batch.successes.map(Rows.firstSuccessRow)],
    ...insertParts(batch, batch.deliveries),
    ...settlementParts(batch.settlements)
  ]
  const runAtOnce = dialect.atOnce(
    known.byEither,
    [firstSuccess, ...Object.values(inserts), ...Object.values(settling)]
  )
  const writeFresh = (batch: Fresh) => runAtOnce(parts(batch))

  const write = (batch: Batch): Effect.Effect<ReadonlyArray<Recorded>, SqlError> => {
    if (isEntangled(batch)) return writeLooking(batch)
    const { others, successes } = Rows.firstSuccessesOf(batch.settlements)
    return Effect.flatMap(writeFresh({ ...batch, successes, settlements: others }), (written) => {
      if (written.isKnown) return writeLooking(batch)
      const recorded = batch.deliveries.map(freshlyRecorded)
      return written.first === successes.length
        ? Effect.succeed(recorded)
        : Effect.as(writeFresh({ deliveries: [], successes: [], settlements: successes }), recorded)
    })
  }
  const { largeBodies } = dialect
  if (largeBodies === undefined) return write

  const writeLarge = Effect.fnUntraced(function*(batch: Batch, large: ReadonlyArray<NewDelivery>) {
    const sent = new Map<NewDelivery, StoredParts>()
    for (const delivery of large) sent.set(delivery, yield* largeBodies.send(delivery.body))
    const recorded = yield* write({ ...batch, sent })
    for (const body of sent.values()) yield* largeBodies.forget(body)
    return recorded
  }, sql.withTransaction)

  return (batch: Batch) => {
    const large = batch.deliveries.filter((delivery) => Rows.bodyLengthOf(delivery) > largeBodies.wholeBytes)
    return large.length === 0 ? write(batch) : writeLarge(batch, large)
  }
}

const payloadRow = ({ sent }: Batch, delivery: NewDelivery): BulkRow => ({
  ...Rows.payloadRow(delivery),
  body: sent?.get(delivery) ?? delivery.body
})

/**
 * The batch holds a delivery together with its redelivery, or with a settlement of it. These can't be written side by
 * side.
 */
const isEntangled = ({ deliveries, settlements }: Batch): boolean => {
  const seen = new Set<string>()
  for (const delivery of deliveries) {
    for (const name of [delivery.id, Rows.fingerprint(delivery)]) {
      if (name === undefined) continue
      if (seen.has(name)) return true
      seen.add(name)
    }
  }
  return settlements.some(({ id }) => seen.has(id))
}
