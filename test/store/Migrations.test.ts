/** Stores that an earlier version of the program has left. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { schemaOf, steps } from "../../src/store/Migrations.ts"
import { newestSchema } from "../../src/store/Schema.ts"
import * as SqlDeliveryStore from "../../src/store/SqlDeliveryStore.ts"
import * as SqliteClient from "../../src/store/sqlite/Client.ts"
import { keyOf, newDelivery, newId } from "../support/StoreDatabases.ts"
import { postgresUnavailable, startPostgres } from "../support/postgres.ts"

/** A store of schema 1 with some deliveries: one is due, one waits for an hour, one is delivered, one is dead. */
const fillFirst = Effect.gen(function*() {
  yield* Migrator.make({})({
    table: "sprayproxy_migrations",
    loader: Migrator.fromRecord({ "1_deliveries": steps["1_deliveries"] })
  })
  const sql = yield* SqlClient
  const now = Date.now()
  const ids = [newId(), newId(), newId(), newId()] as const
  for (const [at, id] of ids.entries()) {
    yield* sql`INSERT INTO deliveries (id, guid, hook_id, body_hash, request_id, event, method, target, received_at,
        body_length, has_payload, stage, stage_at)
      VALUES (${id}, ${id}, '1', '00', 'request', 'push', 'POST', '/', ${now - 1_000}, 2, 1, 0, ${now})`
    yield* sql`INSERT INTO payloads (delivery_id, headers, body) VALUES (${id}, '["A","b"]', ${Buffer.from("{}")})`
    const state = ["pending", "pending", "delivered", "dead"][at]!
    yield* sql`INSERT INTO delivery_rows (delivery_id, backend_key, backend_url, state, since, due_at, owner, tries)
      VALUES (${id}, ${keyOf("a")}, ${keyOf("a")}, ${state}, ${now - 1_000}, ${at === 1 ? now + 3_600_000 : now},
        NULL, ${at})`
  }
  assert.strictEqual(yield* schemaOf, 1)
  return ids
})

/** That it works as one of the newest schema. */
const use = Effect.fnUntraced(function*(
  location: Parameters<typeof SqlDeliveryStore.layer>[0],
  [due, waiting, delivered, dead]: Effect.Success<typeof fillFirst>
) {
  const store = Context.get(yield* Layer.build(SqlDeliveryStore.layer(location, { owner: "new" })), DeliveryStore)
  const { deliveries } = yield* store.list({}, { limit: 10 })
  assert.deepStrictEqual(deliveries.map(({ id }) => id), [dead, delivered, waiting, due])
  const arrived = newDelivery({ heldFor: "a" })
  yield* store.write({ deliveries: [arrived], settlements: [] })
  const claimed = yield* store.claim(keyOf("a"), 10, "newest")
  assert.deepStrictEqual(claimed.map(({ id }) => id), [arrived.id, due])
  assert.deepStrictEqual((yield* store.load(due))?.headers, ["A", "b"])
  const [backlog] = yield* store.backlogs
  assert.deepInclude(backlog, { key: keyOf("a"), pending: 3, dead: 1 })
})

describe("a store of an earlier schema", () => {
  it.live("in SQLite is brought up to date, with what is in it", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-schema-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true }))
      )
      const path = join(directory, "deliveries.db")
      const open = Effect.tap(
        SqliteClient.make({ path, applicationId: 0x73707279, checkedBytes: 0, patience: 1_000, clock: Date.now }),
        (client) => client.open
      )
      const ids = yield* Effect.scoped(
        Effect.flatMap(open, (client) => Effect.provideService(fillFirst, SqlClient, client))
      )
      yield* Effect.scoped(use({ kind: "sqlite", path }, ids))
      yield* Effect.scoped(Effect.flatMap(open, (client) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* client`PRAGMA user_version`, [{ user_version: newestSchema }])
          assert.strictEqual(yield* Effect.provideService(schemaOf, SqlClient, client), newestSchema)
        })))
    }))

  const unavailable = postgresUnavailable()

  it.live.skipIf(unavailable !== undefined)(
    "in PostgreSQL is brought up to date, with what is in it",
    () =>
      Effect.gen(function*() {
        const url = Redacted.make(yield* (yield* startPostgres).createDatabase)
        const client = yield* PgClient.make({ url, maxConnections: 2 })
        const ids = yield* Effect.provideService(fillFirst, SqlClient, client)
        yield* Effect.scoped(use({ kind: "postgres", url }, ids))
        assert.strictEqual(yield* Effect.provideService(schemaOf, SqlClient, client), newestSchema)
      }).pipe(Effect.provide(Reactivity.layer))
  )
})
