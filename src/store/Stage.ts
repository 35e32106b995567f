/** The `stage` of a delivery, which says when pruning looks at it. `Migrations` explains its values. */
import * as Effect from "effect/Effect"
import type { StoreSession } from "./Session.ts"

/** To be called in a transaction, when rows of these deliveries have ended or begun anew. */
export const lookAgain = (
  { dialect, sql }: Pick<StoreSession, "dialect" | "sql">,
  rows: ReadonlyArray<{ readonly id: string }>
) =>
  rows.length === 0
    ? Effect.void
    : sql`UPDATE deliveries SET stage = 0, stage_at = ${dialect.now()}
      WHERE id IN (SELECT value FROM ${dialect.strings([...new Set(rows.map(({ id }) => id))])})`
