/** The parts that tests of a store's start share. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { steps } from "../../src/store/Migrations.ts"
import * as SqlDeliveryStore from "../../src/store/SqlDeliveryStore.ts"
import type { NewDelivery } from "../../src/store/contract/Queue.ts"
import { StoreUnusable } from "../../src/store/contract/Unavailable.ts"

export const started = (location: Parameters<typeof SqlDeliveryStore.layer>[0]) =>
  Effect.map(Layer.build(SqlDeliveryStore.layer(location, { owner: randomUUID() })), Context.get(DeliveryStore))

export const refusal = (location: Parameters<typeof SqlDeliveryStore.layer>[0]) =>
  Effect.scoped(started(location)).pipe(
    Effect.flip,
    Effect.map((error) => {
      assert.instanceOf(error, StoreUnusable)
      assert.notInclude(error.message, "\n")
      return error.reason
    })
  )

export const delivery = (): NewDelivery => ({
  id: randomUUID(),
  requestId: "request",
  hookId: "1",
  guid: randomUUID(),
  event: "push",
  method: "POST",
  target: "/",
  headers: ["Host", "example.com"],
  body: [Buffer.from("{}")],
  bodyHash: "00",
  targets: [{ key: "http://a.example.com", url: "http://a.example.com", held: false }]
})

export const firstSchema = Migrator.make({})({
  table: "sprayproxy_migrations",
  loader: Migrator.fromRecord({ "1_deliveries": steps["1_deliveries"] })
})

/** As the first release left it: with a backend, and a delivery that is to be sent to it. */
export const fillFirstSchema = Effect.gen(function*() {
  const sql = yield* SqlClient
  yield* firstSchema
  yield* sql`INSERT INTO backends (key, url, registered_at, expires_at)
    VALUES ('http://a.example.com', 'http://a.example.com/', 1000, NULL), ('http://old.example.com', 'gone', 500, 600)`
  yield* sql`INSERT INTO deliveries VALUES
    ('1', 'guid', '1', '00', 'request', 'push', 'POST', '/', 1000, 2, 1, 0, 1000)`
  yield* sql`INSERT INTO payloads VALUES ('1', '["Host","example.com"]', ${Buffer.from("{}")})`
  yield* sql`INSERT INTO delivery_rows VALUES
    ('1', 'http://a.example.com', 'http://a.example.com/', 'pending', 1000, 1000, NULL, 3, 'failed', NULL)`
  yield* sql`INSERT INTO attempts VALUES ('1', 'http://a.example.com', 1000, 1, 'failed', 502, 12.5, NULL, NULL)`
})

export const expectKept = Effect.fnUntraced(function*(store: DeliveryStore["Service"]) {
  const key = "http://a.example.com"
  assert.deepStrictEqual(yield* store.backends, [
    {
      key,
      url: "http://a.example.com/",
      registeredAt: 1_000,
      expiresAt: undefined,
      expiresIn: undefined,
      filter: undefined,
      failingFor: undefined
    }
  ])
  const [shown] = yield* store.show("guid")
  assert.deepInclude(shown?.rows[0], { key, state: "pending", tries: 3 })
  assert.lengthOf(shown?.attempts ?? [], 1)
  assert.deepStrictEqual((yield* store.claim(key, 10, "oldest")).map(({ id, tries }) => [id, tries]), [["1", 3]])
  assert.isTrue(yield* store.deleteBackend(key, 1))
  assert.deepStrictEqual(yield* store.backends, [])
})
