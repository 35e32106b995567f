/** Stores of earlier schemas, and that they work as those of the newest. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { schemaOf, steps } from "../../src/store/Migrations.ts"
import * as SqlDeliveryStore from "../../src/store/SqlDeliveryStore.ts"
import { attemptOf, keyOf, newDelivery, newId, numbered } from "../support/StoreDatabases.ts"

/** Schemas that were released. */
export const earlierSchemas = [1, 2, 3, 4] as const

/** A store of that schema with some deliveries: one is due, one waits for an hour, one is delivered, one is dead. */
export const fill = Effect.fnUntraced(function*(schema: typeof earlierSchemas[number]) {
  yield* Migrator.make({})({
    table: "sprayproxy_migrations",
    loader: Migrator.fromRecord(Object.fromEntries(Object.entries(steps).slice(0, schema)))
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
    if (state === "delivered") {
      yield* sql`INSERT INTO attempts (delivery_id, backend_key, at, n, outcome, status, latency, error, answer)
        VALUES (${id}, ${keyOf("a")}, ${now}, 7, 'delivered', 202, 1.5, NULL, NULL)`
    }
  }
  assert.strictEqual(yield* schemaOf, schema)
  return ids
})

/** That it works as one of the newest schema. */
export const use = Effect.fnUntraced(function*(
  location: Parameters<typeof SqlDeliveryStore.layer>[0],
  [due, waiting, delivered, dead]: Effect.Success<ReturnType<typeof fill>>
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
  const attemptsOf = (id: string) =>
    Effect.map(store.show(id), ([shown]) => shown!.attempts.map(({ at: _at, ...attempt }) => attempt))
  const success = { key: keyOf("a"), outcome: "delivered", status: 202, error: undefined, answer: undefined } as const
  assert.deepStrictEqual(yield* attemptsOf(delivered), [{ ...success, latency: 1.5 }])
  // Claimed by this release for the first time, and settled.
  for (const id of [arrived.id, due]) {
    const attempt = attemptOf(Date.now(), { outcome: "delivered", status: 202, latency: 2.5 })
    yield* store.write({
      deliveries: [],
      settlements: [numbered({ id, key: keyOf("a"), attempt, become: "delivered" })]
    })
    assert.deepStrictEqual(yield* attemptsOf(id), [{ ...success, latency: 2.5 }])
  }
})
