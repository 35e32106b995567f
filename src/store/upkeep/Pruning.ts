/**
 * Removes deliveries whose time is over, and gives up rows that are too old.
 *
 * **Details**
 *
 * - It takes some deliveries at a time, each lot in a transaction of its own, so that no writer waits for long. A
 *   pending delivery is looked at again as soon as one of its rows has ended, and each day.
 * - Rows that are too old, or due too far ahead, are found by an index in each backend's part of it. So a round with
 *   nothing to do costs the same whatever the backlog.
 * - The store keeps the latest time that it has seen. A clock that is behind that was set back (a restart, a failover).
 *   Rows that wait for their retry would then wait for so much longer, so they are made due at once.
 */
import { Clock } from "effect/Clock"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreSession } from "../Session.ts"
import { lookAgain } from "../Stage.ts"
import { longestDelay, youngMillis } from "../contract/Row.ts"
import type { Retention } from "../contract/Upkeep.ts"

interface Candidate {
  readonly id: string
  readonly has_payload: number
  readonly pending: number
  readonly dead: number
  readonly settled_at: number
  readonly now: number
}

/** The most deliveries in one transaction. */
const lot = 100

const recheck = 24 * 3_600_000

/** Milliseconds. */
const longestRound = 60_000

/** Milliseconds by which clocks may differ. */
const tolerance = 5_000

/** Milliseconds. Most younger deliveries are about to be settled, and are looked at only then. */
const youngest = youngMillis + tolerance

/** Forgets what is older, up to so many of each kind. True: there may be more. */
export type Forget = (age: number, limit: number) => Effect.Effect<boolean, SqlError>

/** `forget` is there if recovery is on. */
export const make = (session: StoreSession, forget?: Forget) => {
  const { dialect, lease, sql } = session
  const number = (value: number) => sql.literal(String(Math.round(value)))
  const openRows = sql`delivery_rows ${dialect.using("delivery_rows_open")}`

  /** The backends that have pending rows. */
  const waitingKeys = Effect.map(
    sql<{ readonly value: string }>`WITH RECURSIVE keys(value) AS (
        SELECT (SELECT min(backend_key) FROM ${openRows} WHERE state = 'pending')
        UNION ALL
        SELECT (SELECT min(backend_key) FROM ${openRows} WHERE state = 'pending' AND backend_key > k.value)
        FROM keys k WHERE k.value IS NOT NULL
      ) SELECT value FROM keys WHERE value IS NOT NULL`,
    (rows) => rows.map(({ value }) => value)
  )

  const ofKeys = (keys: ReadonlyArray<string>) => sql`backend_key IN (SELECT value FROM ${dialect.strings(keys)})`

  /** Corrects some of the times that lie further ahead than any could. False: there may be others. */
  const correctTimes = Effect.fnUntraced(function*(limit: number) {
    const [clock] = yield* sql<
      { readonly behind: number }
    >`SELECT seen_at - ${dialect.now()} AS behind FROM store_clock`
    const furthest = clock!.behind > tolerance ? 0 : longestDelay
    const now = dialect.now()
    const rows = yield* sql`UPDATE delivery_rows
      SET due_at = CASE WHEN owner IS NULL THEN ${now} ELSE ${now} + ${number(lease)} END
      WHERE (delivery_id, backend_key) IN (
        SELECT delivery_id, backend_key FROM delivery_rows ${dialect.using("delivery_rows_pending")}
        WHERE state = 'pending' AND ${ofKeys(yield* waitingKeys)} AND due_at > ${now} + ${number(furthest)}
          AND (owner IS NULL OR due_at > ${now} + ${number(Math.max(furthest, lease))})
        LIMIT ${number(limit)} ${dialect.forUpdate("skip")})
      RETURNING delivery_id AS id`
    const deliveries = yield* sql`UPDATE deliveries SET stage = 0, stage_at = ${now}
      WHERE id IN (SELECT id FROM deliveries
        WHERE stage IN (0, 1, 2, 3) AND stage_at > ${now} + ${number(recheck)} LIMIT ${number(limit)})
      RETURNING id AS id`
    if (rows.length === limit || deliveries.length === limit) return false
    yield* sql`UPDATE store_clock SET seen_at = ${dialect.now()}`
    return true
  })

  /** Makes some of the rows dead whose delivering began too long ago. Returns how many. */
  const giveUpOld = Effect.fnUntraced(function*(maxAge: number, limit: number) {
    const dead = yield* sql<{ readonly id: string }>`UPDATE delivery_rows
      SET state = 'dead', owner = NULL, settled_at = ${dialect.now()}
      WHERE (delivery_id, backend_key) IN (
        SELECT delivery_id, backend_key FROM ${openRows}
        WHERE state = 'pending' AND ${ofKeys(yield* waitingKeys)} AND since < ${dialect.ago(maxAge)}
          AND (owner IS NULL OR due_at <= ${dialect.now()})
        LIMIT ${number(limit)} ${dialect.forUpdate("skip")})
      RETURNING delivery_id AS id`
    yield* lookAgain(session, dead)
    return dead.length
  }, sql.withTransaction)

  let turn = 0

  /**
   * The overdue deliveries of one stage. For several stages at once PostgreSQL would collect all before it takes some.
   */
  const overdue = Effect.fnUntraced(function*(retention: Retention, limit: number) {
    const { dead, delivered, recovery = 0 } = retention
    const ages = [youngest, delivered, dead, Math.max(delivered, dead, recovery)]
    // Each lot begins with another stage, so that none waits until those before it are empty.
    const first = turn++ % ages.length
    const stages = [...ages.entries()]
    for (const [stage, age] of [...stages.slice(first), ...stages.slice(0, first)]) {
      const found = yield* sql<{ readonly id: string }>`SELECT id FROM deliveries
        WHERE stage = ${number(stage)} AND stage_at < ${dialect.now()} - ${number(age)}
        ORDER BY stage_at LIMIT ${number(limit)} ${dialect.forUpdate("skip")}`
      if (found.length > 0) return found
    }
    return []
  })

  const pruneLot = Effect.fnUntraced(function*(retention: Retention, limit: number) {
    const found = yield* overdue(retention, limit)
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

  /** These are done once in a round, and not with each step. */
  let areTimesCorrect = false
  let areOldGivenUp = false
  let begun = 0

  const prune = Effect.fnUntraced(function*(retention: Retention, limit: number) {
    const clock = yield* Clock
    const now = Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
    // Under load there is always something to look at, and a round would never end.
    if (now - begun > longestRound) areTimesCorrect = areOldGivenUp = false
    if (!areTimesCorrect && !areOldGivenUp) begun = now
    if (!areTimesCorrect) areTimesCorrect = yield* correctTimes(limit)
    if (!areOldGivenUp) areOldGivenUp = (yield* giveUpOld(retention.maxAge, limit)) < limit
    let looked = 0
    let found = 1
    while (looked < limit && found > 0) {
      found = yield* pruneLot(retention, Math.min(lot, limit - looked))
      looked += found
    }
    const isDone = areTimesCorrect && areOldGivenUp && found === 0
    if (isDone) areTimesCorrect = areOldGivenUp = false
    const { recovery } = retention
    const mayBeMore = forget !== undefined && recovery !== undefined && (yield* forget(recovery, limit))
    return !isDone || mayBeMore
  })

  return { prune }
}

interface Fate {
  readonly id: string
  /** Undefined: all of the delivery is removed. */
  readonly stage: number | undefined
  readonly at: number
  /** Whether headers and body are removed. */
  readonly isEmptied: boolean
}

const fateOf = (candidate: Candidate, retention: Retention): Fate => {
  const { dead, has_payload, id, now, pending, settled_at } = candidate
  if (pending > 0) return { id, stage: 0, at: now + recheck, isEmptied: false }
  // A delivery settled by a clock that was ahead counts as settled just now.
  const at = Math.min(settled_at, now)
  const isKept = Math.max(retention.dead, dead > 0 ? 0 : retention.delivered, retention.recovery ?? 0)
  const hadPayload = has_payload === 1
  if (now - at > isKept) return { id, stage: undefined, at, isEmptied: hadPayload }
  if (!hadPayload) return { id, stage: 3, at, isEmptied: false }
  if (now - at > (dead > 0 ? retention.dead : retention.delivered)) return { id, stage: 3, at, isEmptied: true }
  return { id, stage: dead > 0 ? 2 : 1, at, isEmptied: false }
}
