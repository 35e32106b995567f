/**
 * How deliveries and what became of them are written down.
 *
 * **Details**
 *
 * New deliveries and settlements go in one round trip, which is a transaction. Only when a delivery turns out to be known
 * already is nothing of that kept, and the batch is written in a longer transaction that looks first.
 *
 * Most deliveries are taken by every backend at the first try: an outcome that may be of that kind is written as such, in one
 * statement a row. If some row turns out to be another, all of them are said again in the way that fits any row, which changes
 * nothing about those that have it.
 *
 * What became of earlier deliveries comes after new ones: a redelivery finds that its attempt is still under way.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { NewDelivery, NumberedSettlement, Recorded } from "./DeliveryStore.ts"
import { type Bulk, type BulkRow, fillPostgres, fillSqlite, type StoredParts } from "./Dialect.ts"
import { isConflict } from "./Failure.ts"
import { freshlyRecorded, planOf } from "./Redelivery.ts"
import * as Rows from "./Rows.ts"
import type { StoreSession } from "./Session.ts"
import * as Statements from "./Statements.ts"
import * as PostgresBodies from "./postgres/Bodies.ts"
import { durably } from "./postgres/Client.ts"

export interface Batch {
  readonly deliveries: ReadonlyArray<NewDelivery>
  readonly settlements: ReadonlyArray<NumberedSettlement>
  /** Bodies that are in the database already. */
  readonly sent?: ReadonlyMap<NewDelivery, StoredParts>
}

type Part = readonly [Bulk, ReadonlyArray<BulkRow>]

/** What is written at once. */
interface Fresh extends Batch {
  /** Settlements of their own rows' first tries, as it seems. */
  readonly successes: ReadonlyArray<NumberedSettlement>
}

interface FreshlyWritten {
  /** Some delivery is known, and nothing was written. */
  readonly isKnown: boolean
  /** How many of the `successes` were such. */
  readonly successes: number
}

export const make = (session: StoreSession) => {
  const { dialect, owner, sql } = session
  const inserts = Statements.inserts(session)
  const firstSuccess = Statements.firstSuccess(session)
  const settling = Statements.settling(session)
  const known = Statements.known(session)
  const changes = Statements.changes(session)

  const insertParts = (batch: Batch, deliveries: ReadonlyArray<NewDelivery>): ReadonlyArray<Part> => [
    [inserts.deliveries, deliveries.map(Rows.deliveryRow)],
    [inserts.payloads, deliveries.map((delivery) => payloadRow(batch, delivery))],
    [inserts.rows, deliveries.flatMap(Rows.targetRows)]
  ]
  const settlementParts = (settlements: ReadonlyArray<NumberedSettlement>): ReadonlyArray<Part> => {
    const rows = Rows.settlementRows(settlements)
    return [
      [settling.rows, rows],
      [settling.attempts, Rows.attemptRows(settlements)],
      [settling.looks, Rows.endedRows(rows)]
    ]
  }
  const runEach = Effect.forEach(
    ([bulk, rows]: Part) => rows.length === 0 ? Effect.void : dialect.run(bulk, rows),
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

  /** The successes first. */
  const parts = (batch: Fresh): ReadonlyArray<Part> => [
    [firstSuccess, batch.successes.map(Rows.firstSuccessRow)],
    ...insertParts(batch, batch.deliveries),
    ...settlementParts(batch.settlements)
  ]
  const writeFresh = session.sqlite === undefined
    ? freshPostgres(
      session,
      known.byEither,
      [firstSuccess, ...Object.values(inserts), ...Object.values(settling)],
      parts
    )
    : freshSqlite(session.sqlite, parts)

  const write = (batch: Batch): Effect.Effect<ReadonlyArray<Recorded>, SqlError> => {
    if (isEntangled(batch)) return writeLooking(batch)
    const { others, successes } = Rows.firstSuccessesOf(batch.settlements)
    return Effect.flatMap(writeFresh({ ...batch, successes, settlements: others }), (written) => {
      if (written.isKnown) return writeLooking(batch)
      const recorded = batch.deliveries.map(freshlyRecorded)
      return written.successes === successes.length
        ? Effect.succeed(recorded)
        : Effect.as(writeFresh({ deliveries: [], successes: [], settlements: successes }), recorded)
    })
  }
  if (session.sqlite !== undefined) return write

  const writeLarge = Effect.fnUntraced(function*(batch: Batch, large: ReadonlyArray<NewDelivery>) {
    const sent = new Map<NewDelivery, StoredParts>()
    for (const delivery of large) sent.set(delivery, yield* PostgresBodies.send(sql, delivery.body))
    const recorded = yield* write({ ...batch, sent })
    for (const body of sent.values()) yield* PostgresBodies.forget(sql, body)
    return recorded
  }, sql.withTransaction)

  return (batch: Batch) => {
    const large = batch.deliveries.filter((delivery) => Rows.bodyLengthOf(delivery) > PostgresBodies.wholeBytes)
    return large.length === 0 ? write(batch) : writeLarge(batch, large)
  }
}

const payloadRow = ({ sent }: Batch, delivery: NewDelivery): BulkRow => ({
  ...Rows.payloadRow(delivery),
  body: sent?.get(delivery) ?? delivery.body
})

/** Writes all if no delivery is known, else nothing. */
const freshSqlite = (
  { client }: NonNullable<StoreSession["sqlite"]>,
  parts: (batch: Fresh) => ReadonlyArray<Part>
) =>
(batch: Fresh): Effect.Effect<FreshlyWritten, SqlError> => {
  const statements = parts(batch).flatMap(([bulk, rows]) => rows.length === 0 ? [] : [fillSqlite(bulk, rows)])
  if (statements.length === 0) return Effect.succeed({ isKnown: false, successes: 0 })
  return Effect.map(client.atomically(statements), ([first]) => ({
    isKnown: false,
    successes: batch.successes.length === 0 ? 0 : first!.changes
  })).pipe(
    Effect.catchIf(
      (error) => batch.deliveries.length > 0 && isConflict(error),
      () => Effect.succeed({ isKnown: true, successes: 0 })
    )
  )
}

/** The same as one statement: all its parts see what was there before it. */
const freshPostgres = (
  { sql }: StoreSession,
  known: Bulk,
  bulks: ReadonlyArray<Bulk>,
  parts: (batch: Fresh) => ReadonlyArray<Part>
) => {
  const steps = bulks.map(({ statement }, at) => {
    const counted = sql.literal(at === 0 ? "RETURNING 1 AS one" : "")
    return sql`${sql.literal(`step${at}`)} AS (${statement} AND NOT EXISTS (SELECT 1 FROM known) ${counted})`
  })
  const [text, params] = sql`WITH known AS MATERIALIZED (${known.statement}), ${sql.csv(steps)}
    SELECT count(*)::integer AS known, (SELECT count(*)::integer FROM step0) AS successes,
      ${sql.literal(durably)} AS synced FROM known`.compile()
  return (batch: Fresh): Effect.Effect<FreshlyWritten, SqlError> =>
    Effect.map(
      sql.unsafe<{ readonly known: number; readonly successes: number }>(
        text,
        fillPostgres({ params }, parts(batch))
      ),
      ([row]) => ({ isKnown: row!.known > 0, successes: row!.successes })
    )
}

/** It holds a delivery and its redelivery, or its outcome: they can't be written side by side. */
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
