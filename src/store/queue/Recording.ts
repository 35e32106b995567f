/**
 * Writes deliveries and settlements down.
 *
 * **Details**
 *
 * New deliveries and settlements go in one round trip, which is a transaction. Most deliveries are taken by every backend
 * at the first attempt. Such a success is written in one statement a row.
 *
 * If a delivery turns out to be known already, or a row not to be one that takes a first success, nothing of that is kept.
 * The batch is then written in a longer transaction, which looks first and settles all rows in the way that fits any.
 *
 * Settlements of earlier deliveries come after new deliveries: a redelivery still finds an attempt under way.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Bulk, BulkRow, BulkRows, StoredParts } from "../Dialect.ts"
import type { StoreSession } from "../Session.ts"
import type { NewDelivery, Recorded } from "../contract/Queue.ts"
import type { NumberedSettlement } from "../contract/Row.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"
import { freshlyRecorded, planOf } from "./Redelivery.ts"
import type { Memory, Remembered } from "./Remembered.ts"
import * as Rows from "./Rows.ts"
import * as Statements from "./Statements.ts"

/** The content of one transaction. */
export interface Batch {
  readonly deliveries: ReadonlyArray<NewDelivery>
  readonly settlements: ReadonlyArray<NumberedSettlement>
  /** Large bodies that are in the database already, in parts. */
  readonly sent?: ReadonlyMap<NewDelivery, StoredParts>
}

/** `memory` is there if recovery is on. */
export const make = (session: StoreSession, memory?: Memory) => {
  const { dialect, owner, sql } = session
  const inserts = Statements.inserts(session)
  const firstSuccess = Statements.firstSuccess(session)
  const settling = Statements.settling(session)
  const known = Statements.known(session, memory)
  const insertNew = memory === undefined || dialect.kind === "postgres"
    ? inserts.deliveries
    : Statements.insertUnlessRemembered(session, memory)
  const changes = Statements.changes(session)

  const insertParts = (
    batch: Batch,
    deliveries: ReadonlyArray<NewDelivery>,
    insert: Bulk = inserts.deliveries
  ): ReadonlyArray<BulkRows> => [
    [insert, deliveries.map(Rows.deliveryRow)],
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
    const remembered = memory === undefined ? nothing : yield* memory.look(batch.deliveries)
    const plan = planOf(owner, batch.deliveries, ids, stored, remembered)
    yield* runEach([
      ...insertParts(batch, plan.fresh),
      [changes.rows, plan.rows],
      [changes.payloads, plan.received.map(({ delivery, id }) => ({ ...payloadRow(batch, delivery), id }))],
      [changes.deliveries, plan.received.map(({ id }) => ({ id }))],
      ...settlementParts(batch.settlements)
    ])
    if (memory !== undefined && remembered.size > 0) {
      yield* memory.arrived(batch.deliveries.filter(({ id }) => remembered.has(id)), plan.ended)
    }
    return plan.recorded
  }, sql.withTransaction)

  const { deliveries: _deliveries, ...otherInserts } = inserts
  const runAtOnce = dialect.atOnce(
    known.byEither,
    [firstSuccess, insertNew, ...Object.values(otherInserts), ...Object.values(settling)],
    memory === undefined ? undefined : insertNew
  )

  const write = (batch: Batch): Effect.Effect<ReadonlyArray<Recorded>, SqlError | StoreUnavailable> => {
    if (isEntangled(batch)) return writeLooking(batch)
    const { others, successes } = Rows.firstSuccessesOf(batch.settlements)
    const written = runAtOnce([
      [firstSuccess, successes.map(Rows.firstSuccessRow)],
      ...insertParts(batch, batch.deliveries, insertNew),
      ...settlementParts(others)
    ])
    return Effect.flatMap(
      written,
      (isWritten) =>
        isWritten ? Effect.succeed(batch.deliveries.map((delivery) => freshlyRecorded(delivery))) : writeLooking(batch)
    )
  }
  const { largeBodies } = dialect
  if (largeBodies === undefined) return write

  const writeLarge = Effect.fnUntraced(function*(batch: Batch, large: ReadonlyArray<NewDelivery>) {
    const sent = new Map<NewDelivery, StoredParts>()
    for (const delivery of large) sent.set(delivery, yield* largeBodies.send(delivery.body))
    // A statement that fails would end the transaction that the parts are in.
    const settlements = batch.settlements.map((settlement) => ({ ...settlement, isFirst: false }))
    const recorded = yield* write({ ...batch, settlements, sent })
    for (const body of sent.values()) yield* largeBodies.forget(body)
    return recorded
  }, sql.withTransaction)

  return (batch: Batch) => {
    const large = batch.deliveries.filter((delivery) => Rows.bodyLengthOf(delivery) > largeBodies.wholeBytes)
    return large.length === 0 ? write(batch) : writeLarge(batch, large)
  }
}

const nothing: ReadonlyMap<string, Remembered> = new Map()

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
