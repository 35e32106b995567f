/** The reconciler's lease, and how far it has looked. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import type { CompletePass, RecoveryAdvance, RecoveryProgress } from "../contract/Recovery.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"

const progressOf = Question.rowOf(Schema.Struct({
  started_at: Schema.Finite,
  now: Schema.Finite,
  hook_id: Schema.NullOr(Schema.String),
  failures_scanned_to: Schema.NullOr(Schema.Finite),
  failures_completed_at: Schema.NullOr(Schema.Finite),
  full_scanned_to: Schema.NullOr(Schema.Finite),
  full_completed_at: Schema.NullOr(Schema.Finite),
  leader: Schema.NullOr(Schema.String)
}))

export const make = ({ dialect, owner, sql }: StoreSession) => {
  const now = dialect.now()
  const number = (value: number) => sql.literal(String(Math.round(value)))
  const isAlone = sql.literal(dialect.kind === "sqlite" ? "OR 1 = 1" : "")
  const begin = sql`INSERT INTO recovery_progress (id, started_at) VALUES (1, ${now}) ON CONFLICT (id) DO NOTHING`

  return {
    lead: (millis: number) =>
      Effect.map(
        // A lease that lies further ahead than any could is from a clock that was set back since. In SQLite any lease is
        // that of a process that is gone, because no two have the file.
        sql`INSERT INTO recovery_progress AS g (id, started_at, owner, lease_until)
          VALUES (1, ${now}, ${owner}, ${now} + ${number(millis)})
          ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
          WHERE g.owner IS NULL OR g.owner = excluded.owner OR g.lease_until <= ${now}
            OR g.lease_until > ${now} + ${number(2 * millis)} ${isAlone}
          RETURNING id AS id`,
        (taken) => taken.length > 0
      ),

    resign: Effect.suspend(() =>
      Effect.asVoid(sql`UPDATE recovery_progress SET owner = NULL, lease_until = NULL WHERE owner = ${owner}`)
    ),

    progress: Effect.gen(function*(): Effect.fn.Return<RecoveryProgress, SqlError | StoreUnavailable> {
      yield* begin
      const row = yield* progressOf(sql`SELECT started_at AS started_at, ${now} AS now, hook_id AS hook_id,
          failures_scanned_to AS failures_scanned_to, failures_completed_at AS failures_completed_at,
          full_scanned_to AS full_scanned_to, full_completed_at AS full_completed_at,
          CASE WHEN lease_until > ${now} THEN owner END AS leader
        FROM recovery_progress`)
      return {
        startedAt: row.started_at,
        now: row.now,
        hookId: row.hook_id ?? undefined,
        failures: passOf(row.failures_scanned_to, row.failures_completed_at),
        full: passOf(row.full_scanned_to, row.full_completed_at),
        leader: row.leader ?? undefined
      }
    }).pipe(sql.withTransaction),

    advance: Effect.fnUntraced(function*({ failures, full, hookId }: RecoveryAdvance) {
      yield* begin
      if (hookId !== undefined) yield* sql`UPDATE recovery_progress SET hook_id = ${hookId}`
      if (full !== undefined) yield* sql`UPDATE recovery_progress SET full_began_at = ${number(full.beganAt)}`
      for (const [kind, scannedTo] of [["failures", failures], ["full", full?.scannedTo]] as const) {
        if (scannedTo === undefined) continue
        const position = sql.literal(`${kind}_scanned_to`)
        yield* sql`UPDATE recovery_progress SET ${sql.literal(`${kind}_completed_at`)} = ${now},
          ${position} = CASE WHEN ${position} > ${number(scannedTo)} THEN ${position} ELSE ${number(scannedTo)} END`
      }
    }, sql.withTransaction)
  }
}

const passOf = (scannedTo: number | null, completedAt: number | null): CompletePass | undefined =>
  scannedTo === null || completedAt === null ? undefined : { scannedTo, completedAt }
