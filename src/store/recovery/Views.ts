/** Reads the recoveries of deliveries for operators. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Question from "../Question.ts"
import type { StoreSession } from "../Session.ts"
import { recoveryStates } from "../contract/Recovery.ts"
import type { RecoveriesOf } from "../operator/Views.ts"
import * as Conditions from "./Conditions.ts"

const rowsOf = Question.rowsOf(Schema.Struct({
  id: Schema.String,
  state: Schema.Literals(recoveryStates),
  failed_at: Schema.Finite,
  asks: Schema.Finite,
  asked_at: Schema.NullOr(Schema.Finite),
  ended_at: Schema.NullOr(Schema.Finite),
  reason: Schema.NullOr(Schema.String)
}))

export const make = (session: StoreSession): RecoveriesOf => {
  const { dialect, reading } = session
  const { isOurHook } = Conditions.make(session)
  return (ids: ReadonlyArray<string>) =>
    Effect.map(
      rowsOf(reading`SELECT d.id AS id, y.state AS state, y.failed_at AS failed_at, y.asks AS asks,
          y.asked_at AS asked_at, y.ended_at AS ended_at, y.reason AS reason
        FROM ${dialect.strings(ids)} JOIN deliveries d ON d.id = i.value
        JOIN recoveries y ON y.guid = d.guid AND ${isOurHook(reading`d.hook_id`)}`),
      (rows) =>
        new Map(rows.map(({ asked_at, asks, ended_at, failed_at, id, reason, state }) => [id, {
          state,
          failedAt: failed_at,
          asks,
          askedAt: asked_at ?? undefined,
          recoveredAt: state === "recovered" ? ended_at ?? undefined : undefined,
          reason: reason ?? undefined
        }]))
    )
}
