import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { faultOf, reasonOf } from "../../src/store/SqlErrors.ts"

/** The faults of these statements. A statement that takes too long is the question's fault. */
export const faults = Effect.fnUntraced(function*(
  sql: SqlClient,
  statements: ReadonlyArray<readonly [text: string, params: ReadonlyArray<unknown>]>
) {
  const found: Array<string> = []
  for (const [text, params] of statements) {
    const error = yield* Effect.flip(sql.unsafe(text, params))
    assert.notInclude(reasonOf(error), "\n")
    found.push(faultOf(error, "question"))
  }
  return found
})
