/** Stores that an earlier version of the program has left, or still uses. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import { SqlClient } from "effect/sql/SqlClient"
import { DeliveryStore } from "../../../src/store/DeliveryStore.ts"
import { schemaOf } from "../../../src/store/Migrations.ts"
import { newestSchema } from "../../../src/store/Schema.ts"
import * as SqlDeliveryStore from "../../../src/store/SqlDeliveryStore.ts"
import { attemptOf, keyOf, newDelivery, numbered } from "../../support/StoreDatabases.ts"
import { postgresUnavailable, sharedPostgres } from "../../support/postgres/Postgres.ts"
import { earlierSchemas, fill, use } from "../EarlierSchemas.ts"

const database = Effect.gen(function*() {
  const url = Redacted.make(yield* (yield* sharedPostgres).createDatabase)
  return { url, client: yield* PgClient.make({ url, maxConnections: 2 }) }
})

const success = (id: string) =>
  numbered({ id, key: keyOf("a"), attempt: attemptOf(Date.now(), { outcome: "delivered" }), become: "delivered" })

describe.skipIf(postgresUnavailable() !== undefined)("a store of an earlier schema", () => {
  it.live.each(earlierSchemas)(
    "in PostgreSQL is brought up to date, with what is in it: %i",
    (schema) =>
      Effect.gen(function*() {
        const { client, url } = yield* database
        const ids = yield* Effect.provideService(fill(schema), SqlClient, client)
        yield* Effect.scoped(use({ kind: "postgres", url }, ids))
        assert.strictEqual(yield* Effect.provideService(schemaOf, SqlClient, client), newestSchema)
      }).pipe(Effect.provide(Reactivity.layer))
  )

  it.live("loses no attempt to a replica of the release before, which knows none that is kept in a row", () =>
    Effect.gen(function*() {
      const { client: sql, url } = yield* database
      const store = Context.get(
        yield* Layer.build(SqlDeliveryStore.layer({ kind: "postgres", url }, { owner: "new" })),
        DeliveryStore
      )
      const [delivery, late] = [newDelivery(), newDelivery()]
      /** Its statements, for one row. */
      const earlier = {
        takes: (id: string) =>
          sql`UPDATE delivery_rows SET state = 'pending', since = since + 1, due_at = due_at + 60000, owner = 'earlier',
            tries = 0, settled_at = NULL WHERE delivery_id = ${id}`,
        settles: Effect.fnUntraced(function*(id: string, n: number) {
          yield* sql`UPDATE delivery_rows SET tries = tries + 1, last_outcome = 'delivered', state = 'delivered',
            owner = NULL, settled_at = due_at WHERE delivery_id = ${id}`
          yield* sql`INSERT INTO attempts (delivery_id, backend_key, at, n, outcome, status, latency)
            VALUES (${id}, ${keyOf("a")}, ${Date.now()}, ${n}, 'delivered', 202, 1)`
        })
      }
      const shown = Effect.fnUntraced(function*(id: string) {
        const [{ attempts, rows: [row] }] = (yield* store.show(id)) as [
          Effect.Success<ReturnType<typeof store.show>>[0]
        ]
        return [attempts.length, row!.state, row!.tries]
      })
      yield* store.write({ deliveries: [delivery, late], settlements: [] })
      // It asks again for what this one has settled, and settles it.
      yield* store.write({ deliveries: [], settlements: [success(delivery.id)] })
      yield* earlier.takes(delivery.id)
      yield* earlier.settles(delivery.id, 1)
      assert.deepStrictEqual(yield* shown(delivery.id), [2, "delivered", 1])
      // This one has it again, and its first attempt succeeds once more.
      yield* store.redeliver({ id: delivery.id }, 1)
      yield* store.claim(keyOf("a"), 1, "oldest")
      yield* store.write({ deliveries: [], settlements: [success(delivery.id)] })
      assert.deepStrictEqual(yield* shown(delivery.id), [3, "delivered", 1])
      // It took the row over, and both say how it went.
      yield* earlier.takes(late.id)
      yield* earlier.settles(late.id, 2)
      yield* store.write({ deliveries: [], settlements: [success(late.id)] })
      assert.deepStrictEqual(yield* shown(late.id), [2, "delivered", 2])
    }).pipe(Effect.scoped, Effect.provide(Reactivity.layer)))
})
