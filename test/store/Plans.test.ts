import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { SqlClient } from "effect/sql/SqlClient"
import type { Statement } from "effect/sql/Statement"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { migrate } from "../../src/store/Migrations.ts"
import * as Question from "../../src/store/Question.ts"
import type { RowFilter } from "../../src/store/contract/Operator.ts"
import * as StoreSearch from "../../src/store/operator/Search.ts"
import * as SqliteClient from "../../src/store/sqlite/Client.ts"
import * as SqliteDialect from "../../src/store/sqlite/Dialect.ts"
import * as StorePruning from "../../src/store/upkeep/Pruning.ts"
import { keyOf } from "../support/StoreDatabases.ts"

const idsOf = Question.rowsOf(Schema.Struct({ id: Schema.String }))

const backend = keyOf("a")

/** Everything a client is told. */
const recording = (client: SqliteClient.SqliteClient) => {
  const statements: Array<readonly [text: string, params: ReadonlyArray<unknown>]> = []
  const recorder = new Proxy(client, {
    apply: (target, self, args) => {
      const statement = Reflect.apply(target as never, self, args) as Statement<unknown>
      const [text, params] = statement.compile()
      // Parts of statements begin with other words, and those over many rows have places for values.
      const isWhole = /^\s*(?:WITH|UPDATE delivery_rows\s|SELECT min)/.test(text)
      if (isWhole && params.every((param) => typeof param !== "object")) statements.push([text, params])
      return statement
    }
  })
  /** How SQLite does what it was told since this was asked last. */
  const plans = Effect.suspend(() =>
    Effect.forEach(
      statements.splice(0),
      ([text, params]) => client.unsafe<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${text}`, params)
    )
  )
  return { plans: Effect.map(plans, (found) => found.flat().map(({ detail }) => detail)), recorder }
}

const setUp = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-plans-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true }))
  )
  const path = join(directory, "deliveries.db")
  const client = yield* SqliteClient.make({ path, applicationId: 1, checkedBytes: 0, patience: 1_000, clock: Date.now })
  yield* client.open
  yield* Effect.provideService(migrate, SqlClient, client)
  const { plans, recorder } = recording(client)
  const dialect = SqliteDialect.make(recorder, { ago: (millis) => Date.now() - millis, stops: [] })
  const session = {
    dialect,
    sql: recorder,
    reading: recorder,
    ready: Effect.void,
    owner: "one",
    lease: 1_000
  }
  return { plans, session }
})

describe("what is asked of a large store goes by an index", () => {
  it.live.each<readonly [RowFilter, how: string]>([
    [{ state: "dead" }, "r USING COVERING INDEX delivery_rows_failed_by_id (state=?)"],
    [{ state: "rejected", backend }, "r USING COVERING INDEX delivery_rows_failed_by_id (state=?)"],
    [{ state: "pending", backend }, "r USING COVERING INDEX delivery_rows_pending (backend_key=?)"],
    [{ event: "release" }, "d USING COVERING INDEX deliveries_event (event=?)"],
    [{ event: "release", state: "delivered", backend }, "d USING COVERING INDEX deliveries_event (event=?)"],
    [{ guid: "one" }, "d USING COVERING INDEX deliveries_fingerprint (guid=?)"],
    [{ guid: "one", state: "dead" }, "d USING COVERING INDEX deliveries_fingerprint (guid=?)"],
    [{ id: "one" }, "d USING PRIMARY KEY (id=?)"]
  ])("by an operator: %o", ([filter, how]) =>
    Effect.gen(function*() {
      const { plans, session } = yield* setUp
      yield* StoreSearch.make(session).deliveries(filter, { limit: 50, after: undefined }, "d.id AS id", idsOf)
      const plan = yield* plans
      assert.include(plan, `SEARCH ${how}`)
      // Nothing else is read whole, but what was found.
      assert.deepStrictEqual(plan.filter((step) => /^SCAN (?!(?:p|b|page|picked|c|few)\b)/.test(step)), [])
    }))

  it.live("by when it was received", () =>
    Effect.gen(function*() {
      const { plans, session } = yield* setUp
      yield* StoreSearch.make(session).rows({ state: "dead", age: 1_000 }, { limit: 50, after: undefined })
      assert.include(yield* plans, "SEARCH d USING COVERING INDEX deliveries_received (received_at>?)")
    }))

  it.live("by pruning, with nothing to do", () =>
    Effect.gen(function*() {
      const { plans, session } = yield* setUp
      yield* StorePruning.make(session).prune({ delivered: 1_000, dead: 1_000, maxAge: 1_000 }, 100)
      const plan = yield* plans
      for (const how of ["open (backend_key=? AND since<?)", "pending (backend_key=? AND due_at>?)"]) {
        assert.include(plan.join("\n"), `delivery_rows_${how}`)
      }
    }))
})
