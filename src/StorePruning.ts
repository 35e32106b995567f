/**
 * What goes when its time is over.
 *
 * **Details**
 *
 * Some deliveries at a time, each lot in a transaction of its own, so that nobody who writes waits for long. What is
 * pending is looked at again as soon as one of its rows has ended, and each hour.
 */
import * as Effect from "effect/Effect"
import { longestDelay, type Retention } from "./DeliveryStore.ts"
import { lookAgain } from "./StoreQueue.ts"
import type { StoreSession } from "./StoreSession.ts"

interface Candidate {
  readonly id: string
  readonly has_payload: number
  readonly pending: number
  readonly dead: number
  readonly settled_at: number
  readonly now: number
}

/** Deliveries in one transaction. */
const lot = 100

const recheck = 3_600_000

export const make = (session: StoreSession) => {
  const { dialect, lease, sql } = session
  const longestDue = Math.max(longestDelay, lease)
  const number = (value: number) => sql.literal(String(Math.round(value)))

  /** Times that lie further ahead than any could. */
  const mend = Effect.gen(function*() {
    yield* sql`UPDATE delivery_rows SET due_at = ${dialect.now()}, owner = NULL
      WHERE (delivery_id, backend_key) IN (
        SELECT delivery_id, backend_key FROM delivery_rows ${dialect.using("delivery_rows_pending")}
        WHERE state = 'pending' AND due_at > ${dialect.now()} + ${number(longestDue)}
        ${dialect.forUpdate("skip")})`
    yield* sql`UPDATE deliveries SET stage = 0, stage_at = ${dialect.now()}
      WHERE stage IN (0, 1, 2, 3) AND stage_at > ${dialect.now()} + ${number(recheck)}`
  })

  const bury = Effect.fnUntraced(function*(maxAge: number, limit: number) {
    const dead = yield* sql<{ readonly id: string }>`UPDATE delivery_rows
      SET state = 'dead', owner = NULL, settled_at = ${dialect.now()}
      WHERE (delivery_id, backend_key) IN (
        SELECT delivery_id, backend_key FROM delivery_rows ${dialect.using("delivery_rows_pending")}
        WHERE state = 'pending' AND since < ${dialect.now()} - ${number(maxAge)}
          AND (owner IS NULL OR due_at <= ${dialect.now()})
        LIMIT ${number(limit)} ${dialect.forUpdate("skip")})
      RETURNING delivery_id AS id`
    yield* lookAgain(session, dead)
    return dead.length
  }, sql.withTransaction)

  const pruneLot = Effect.fnUntraced(function*(retention: Retention, limit: number) {
    const atStage = (stage: number, age: number) =>
      sql`(stage = ${number(stage)} AND stage_at < ${dialect.now()} - ${number(age)})`
    const longest = Math.max(retention.delivered, retention.dead)
    const due = sql.or([
      atStage(0, -1),
      atStage(1, retention.delivered),
      atStage(2, retention.dead),
      atStage(3, longest)
    ])
    const found = yield* sql<{ readonly id: string }>`SELECT id FROM deliveries WHERE ${due}
      LIMIT ${number(limit)} ${dialect.forUpdate("skip")}`
    if (found.length === 0) return 0
    const candidates = yield* sql<Candidate>`SELECT d.id AS id, d.has_payload AS has_payload, ${dialect.now()} AS now,
        count(CASE WHEN r.state = 'pending' THEN 1 END) AS pending,
        count(CASE WHEN r.state = 'dead' THEN 1 END) AS dead,
        coalesce(max(r.settled_at), d.received_at) AS settled_at
      FROM ${dialect.strings(found.map(({ id }) => id))}
      JOIN deliveries d ON d.id = i.value
      LEFT JOIN delivery_rows r ON r.delivery_id = d.id
      GROUP BY d.id, d.has_payload, d.received_at`
    const fates = candidates.map((candidate) => fateOf(candidate, retention))
    const gone = fates.flatMap((fate) => fate.stage === undefined ? [fate.id] : [])
    const emptied = fates.flatMap((fate) => fate.isEmptied ? [fate.id] : [])
    const among = (column: string, ids: ReadonlyArray<string>) =>
      sql`${sql.literal(column)} IN (SELECT value FROM ${dialect.strings(ids)})`
    if (emptied.length > 0) yield* sql`DELETE FROM payloads WHERE ${among("delivery_id", emptied)}`
    if (gone.length > 0) {
      yield* sql`DELETE FROM attempts WHERE ${among("delivery_id", gone)}`
      yield* sql`DELETE FROM delivery_rows WHERE ${among("delivery_id", gone)}`
      yield* sql`DELETE FROM deliveries WHERE ${among("id", gone)}`
    }
    yield* dialect.run(
      restage,
      fates.flatMap(({ at, id, isEmptied, stage }) =>
        stage === undefined ? [] : [{ id, stage, at, has_payload: isEmptied ? 0 : 1 }]
      )
    )
    return found.length
  }, sql.withTransaction)

  const restage = dialect.bulk(
    { id: "text", stage: "bigint", at: "bigint", has_payload: "bigint" },
    (i, { from }) =>
      sql`UPDATE deliveries SET stage = ${i.stage}, stage_at = ${i.at},
        has_payload = CASE WHEN ${i.has_payload} = 0 THEN 0 ELSE deliveries.has_payload END
      ${from} WHERE deliveries.id = ${i.id}`
  )

  /** In the middle of a round: all that is pending is looked through once, and not with each step. */
  let isMended = false
  let isBuried = false

  const prune = Effect.fnUntraced(function*(retention: Retention, limit: number) {
    if (!isMended) yield* mend
    isMended = true
    if (!isBuried) isBuried = (yield* bury(retention.maxAge, limit)) < limit
    let looked = 0
    while (looked < limit) {
      const wanted = Math.min(lot, limit - looked)
      const found = yield* pruneLot(retention, wanted)
      looked += found
      if (found < wanted) break
    }
    const isDone = isBuried && looked < limit
    if (isDone) isMended = isBuried = false
    return !isDone
  })

  return { prune, mend }
}

interface Fate {
  readonly id: string
  /** Undefined: all of it goes. */
  readonly stage: number | undefined
  readonly at: number
  /** Headers and body go. */
  readonly isEmptied: boolean
}

const fateOf = (candidate: Candidate, retention: Retention): Fate => {
  const { dead, has_payload, id, now, pending, settled_at } = candidate
  if (pending > 0) return { id, stage: 0, at: now + recheck, isEmptied: false }
  // Settled by a clock that was ahead: as if just now.
  const at = Math.min(settled_at, now)
  const isKept = dead > 0 ? retention.dead : Math.max(retention.delivered, retention.dead)
  const hadPayload = has_payload === 1
  if (now - at > isKept) return { id, stage: undefined, at, isEmptied: hadPayload }
  if (!hadPayload) return { id, stage: 3, at, isEmptied: false }
  if (dead > 0) return { id, stage: 2, at, isEmptied: false }
  return now - at > retention.delivered ? { id, stage: 3, at, isEmptied: true } : { id, stage: 1, at, isEmptied: false }
}
