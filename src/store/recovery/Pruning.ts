/** Forgets recoveries that have ended, and deliveries that went without the store, when their time is over. */
import * as Effect from "effect/Effect"
import type { StoreSession } from "../Session.ts"
import type { Forget } from "../upkeep/Pruning.ts"

export const make = ({ dialect, sql }: StoreSession): Forget => {
  const number = (value: number) => sql.literal(String(Math.round(value)))
  return Effect.fnUntraced(function*(age, limit) {
    const isOver = sql`< ${dialect.now()} - ${number(age)}`
    const ended = yield* sql`DELETE FROM recoveries WHERE guid IN (
        SELECT guid FROM recoveries WHERE ended_at ${isOver} ORDER BY ended_at LIMIT ${number(limit)}
        ${dialect.forUpdate("skip")})
      RETURNING guid AS guid`
    const kept = yield* sql`DELETE FROM fallbacks WHERE (guid, hook_id, body_hash) IN (
        SELECT guid, hook_id, body_hash FROM fallbacks WHERE kept_at ${isOver} ORDER BY kept_at LIMIT ${number(limit)}
        ${dialect.forUpdate("skip")})
      RETURNING guid AS guid`
    return ended.length === limit || kept.length === limit
  }, sql.withTransaction)
}
