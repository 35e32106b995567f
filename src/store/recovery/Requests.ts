/** Missing deliveries: which there are, which to ask for, and which not any more. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Fragment } from "effect/sql/Statement"
import { type BulkRow, storable } from "../Dialect.ts"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import {
  type DueRequest,
  type GivenUp,
  type Missing,
  type RecoveryCounts,
  requestMillis,
  type Wanted
} from "../contract/Recovery.ts"
import * as Conditions from "./Conditions.ts"

const missingColumns = {
  guid: "text",
  event: "text",
  attempt_id: "text",
  failed_at: "bigint",
  run: "text"
} as const

const dueRows = Question.rowsOf(Schema.Struct({
  guid: Schema.String,
  event: Schema.String,
  attempt_id: Schema.String,
  failed_at: Schema.Finite,
  priority: Schema.Finite,
  asks: Schema.Finite,
  run: Schema.NullOr(Schema.String)
}))

const countsOf = Question.rowOf(Schema.Struct({
  wanted: Schema.Finite,
  asked: Schema.Finite,
  recovered: Schema.Finite,
  given_up: Schema.Finite,
  oldest: Schema.NullOr(Schema.Finite),
  latest: Schema.NullOr(Schema.Finite)
}))

const arrivalOf = Question.rowOf(Schema.Struct({
  received: Schema.NullOr(Schema.Finite),
  recovered: Schema.NullOr(Schema.Finite)
}))

export const make = (session: StoreSession) => {
  const { dialect, owner, reading, sql } = session
  const { hasArrived, isMissing, recovered: toRecovered } = Conditions.make(session)
  const now = dialect.now()

  /** For a recovery `y` that is there already, and one more attempt at it. */
  const joined = sql`
    attempt_id = CASE WHEN length(excluded.attempt_id) > length(y.attempt_id)
      OR (length(excluded.attempt_id) = length(y.attempt_id) AND excluded.attempt_id > y.attempt_id)
      THEN excluded.attempt_id ELSE y.attempt_id END,
    failed_at = CASE WHEN excluded.failed_at < y.failed_at THEN excluded.failed_at ELSE y.failed_at END,
    run = coalesce(excluded.run, y.run)`

  const wanting = (changed: Fragment, isChanged: Fragment) =>
    dialect.bulk(
      { ...missingColumns, priority: "bigint" },
      (i, { from }) =>
        sql`INSERT INTO recoveries AS y (guid, event, attempt_id, failed_at, run, state, asks, due_at, priority)
        SELECT ${i.guid}, ${i.event}, ${i.attempt_id}, ${i.failed_at}, ${i.run}, 'wanted', 0, ${now}, ${i.priority}
        ${from} WHERE true
        ON CONFLICT (guid) DO UPDATE SET ${joined} ${changed} WHERE ${isChanged}`
    )
  const again = sql`y.asked_at + ${sql.literal(String(requestMillis))}`
  const soonest = sql`CASE WHEN ${again} > ${now} THEN ${again} ELSE ${now} END`
  const wantAnew = wanting(
    sql`, state = CASE WHEN y.state = 'given up' THEN 'wanted' ELSE y.state END, asks = 0, reason = NULL,
      ended_at = NULL, due_at = CASE WHEN y.state = 'given up' THEN ${now}
        WHEN y.due_at < ${soonest} THEN y.due_at ELSE ${soonest} END`,
    sql`y.state <> 'recovered'`
  )
  const want = wanting(sql.literal(""), isMissing)

  const giveUp = dialect.bulk(
    { ...missingColumns, reason: "text" },
    (i, { from }) =>
      sql`INSERT INTO recoveries AS y
        (guid, event, attempt_id, failed_at, run, state, reason, asks, due_at, ended_at, priority)
      SELECT ${i.guid}, ${i.event}, ${i.attempt_id}, ${i.failed_at}, ${i.run}, 'given up', ${i.reason}, 0, ${now}, ${now}, 0
      ${from} WHERE true
      ON CONFLICT (guid) DO UPDATE SET ${joined}, state = excluded.state, reason = excluded.reason,
        ended_at = excluded.ended_at
      WHERE ${isMissing}
      RETURNING guid AS guid`
  )

  return {
    want: Effect.fnUntraced(function*(wanted: ReadonlyArray<Wanted>, { anew }: { readonly anew: boolean }) {
      const rows = rowsOf(wanted, ({ priority }) => ({ priority }))
      const known = yield* sql<{ readonly state: string }>`SELECT y.state AS state FROM recoveries y
        WHERE y.guid IN (SELECT value FROM ${dialect.strings(rows.map(({ guid }) => guid))})
        ORDER BY y.guid ${dialect.forUpdate("wait")}`
      yield* dialect.run(anew ? wantAnew : want, rows)
      return rows.length - known.filter(({ state }) => !anew || state !== "given up").length
    }, sql.withTransaction),

    giveUp: (given: ReadonlyArray<GivenUp>) =>
      Effect.map(
        dialect.run(giveUp, rowsOf(given, ({ reason }) => ({ reason: storable(reason) }))),
        (found) => found.length
      ),

    wanted: (limit: number) =>
      Effect.map(
        dueRows(sql`SELECT guid AS guid, event AS event, attempt_id AS attempt_id, failed_at AS failed_at,
            priority AS priority, asks AS asks, run AS run
          FROM recoveries y WHERE ${isMissing} AND due_at <= ${now}
          ORDER BY priority, failed_at DESC, guid LIMIT ${sql.literal(String(limit))}`),
        (rows) =>
          rows.map(({ attempt_id, failed_at, run, ...row }): DueRequest => ({
            ...row,
            attemptId: attempt_id,
            failedAt: failed_at,
            run: run ?? undefined
          }))
      ),

    asking: Effect.fnUntraced(function*(guid: string, retryIn: number, asks?: number) {
      // It may have arrived in a way that recovery is not told of: at a replica without it, or just before it was wanted.
      yield* sql`UPDATE recoveries AS y SET ${toRecovered} WHERE y.guid = ${guid} AND ${isMissing} AND ${hasArrived}`
      const asked = yield* sql`UPDATE recoveries AS y SET state = 'asked',
          asks = ${asks === undefined ? sql`asks + 1` : sql.literal(String(asks))}, asked_at = ${now},
          due_at = ${now} + ${sql.literal(String(Math.round(retryIn)))}
        WHERE y.guid = ${guid} AND ${isMissing}
          AND EXISTS (SELECT 1 FROM recovery_progress g WHERE g.owner = ${owner} AND g.lease_until > ${now})
        RETURNING guid AS guid`
      return asked.length > 0
    }, sql.withTransaction),

    /** Both times by an index. */
    lastArrivalAt: Effect.map(
      arrivalOf(reading`SELECT (SELECT max(d.received_at) FROM deliveries d) AS received,
        (SELECT y.ended_at FROM recoveries y WHERE y.ended_at IS NOT NULL AND y.state = 'recovered'
          ORDER BY y.ended_at DESC LIMIT 1) AS recovered`),
      ({ received, recovered }) => {
        const last = Math.max(received ?? -Infinity, recovered ?? -Infinity)
        return last === -Infinity ? undefined : last
      }
    ),

    recoveryCounts: (run?: string) => {
      const inState = (state: string) => sql`count(CASE WHEN y.state = ${sql.literal(`'${state}'`)} THEN 1 END)`
      return Effect.map(
        countsOf(reading`SELECT ${inState("wanted")} AS wanted, ${inState("asked")} AS asked,
            ${inState("recovered")} AS recovered, ${inState("given up")} AS given_up,
            min(CASE WHEN ${isMissing} THEN y.failed_at END) AS oldest,
            max(CASE WHEN y.state = 'recovered' THEN y.ended_at END) AS latest
          FROM recoveries y WHERE ${run === undefined ? sql`1 = 1` : sql`y.run = ${run}`}`),
        ({ asked, given_up, latest, oldest, recovered, wanted }): RecoveryCounts => ({
          wanted,
          asked,
          recovered,
          givenUp: given_up,
          oldestFailedAt: oldest ?? undefined,
          lastRecoveredAt: latest ?? undefined
        })
      )
    }
  }
}

/** One row for each GUID, as if they were written one after the other. They are locked in one order. */
const rowsOf = <Each extends Missing>(
  missing: ReadonlyArray<Each>,
  others: (one: Each) => BulkRow
): ReadonlyArray<BulkRow & { readonly guid: string }> => {
  const byGuid = new Map<
    string,
    BulkRow & { readonly guid: string; readonly attempt_id: string; readonly failed_at: number }
  >()
  for (const one of missing) {
    const { attemptId, event, failedAt, guid, run } = one
    const before = byGuid.get(guid)
    byGuid.set(guid, {
      ...others(one),
      guid,
      event,
      attempt_id: before !== undefined && BigInt(before.attempt_id) > BigInt(attemptId) ? before.attempt_id : attemptId,
      failed_at: Math.min(before?.failed_at ?? Infinity, Math.round(failedAt)),
      run: run ?? before?.["run"]
    })
  }
  return [...byGuid.values()].toSorted((a, b) => a.guid < b.guid ? -1 : 1)
}
