/**
 * When a delivery is looked at for pruning: its `stage`, of which the schema tells more.
 */
import * as Effect from "effect/Effect"
import type { StoreSession } from "./Session.ts"

/** Milliseconds. A delivery that came, or was asked for again, so recently has not been looked at by pruning. */
export const youngFor = 10_000

/** In a transaction: some rows of these deliveries have ended, or begun anew. */
export const lookAgain = (
  { dialect, sql }: Pick<StoreSession, "dialect" | "sql">,
  rows: ReadonlyArray<{ readonly id: string }>
) =>
  rows.length === 0
    ? Effect.void
    : sql`UPDATE deliveries SET stage = 0, stage_at = ${dialect.now()}
      WHERE id IN (SELECT value FROM ${dialect.strings([...new Set(rows.map(({ id }) => id))])})`
