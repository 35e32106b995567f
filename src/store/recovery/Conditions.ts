/** Conditions that the statements of recovery share. In all of them `y` is the recovery. */
import type { Fragment } from "effect/sql/Statement"
import type { StoreSession } from "../Session.ts"
import { answerMillis } from "../contract/Recovery.ts"

export const make = ({ dialect, sql }: Pick<StoreSession, "dialect" | "sql">) => {
  /** Recoveries are of one App's hook. Until that is known, the GUID alone decides. */
  const isOurHook = (hookId: Fragment) =>
    sql`coalesce((SELECT g.hook_id FROM recovery_progress g), ${hookId}) = ${hookId}`
  const isMissing = sql`y.state IN ('wanted', 'asked')`
  /** A delivery that comes now is taken for GitHub's answer to a request. */
  const isAnswer = (now: Fragment) => sql`(${isMissing} OR y.asked_at > ${now} - ${sql.literal(String(answerMillis))})`
  return {
    isOurHook,
    isMissing,
    isAnswer,
    /** What is needed to know that it has arrived: the ledger holds it, or it went without the store to everybody. */
    hasArrived: sql`(
      EXISTS (SELECT 1 FROM deliveries d WHERE d.guid = y.guid AND ${isOurHook(sql`d.hook_id`)})
      OR (SELECT min(f.is_complete) FROM fallbacks f WHERE f.guid = y.guid AND ${isOurHook(sql`f.hook_id`)}) = 1)`,
    recovered: sql`state = 'recovered', reason = NULL, ended_at = ${dialect.now()}`
  }
}
