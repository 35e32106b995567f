import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Reactivity from "effect/reactivity/Reactivity"
import { randomBytes } from "node:crypto"
import { connect, createServer } from "node:net"
import * as SqlDeliveryStore from "../../../src/store/SqlDeliveryStore.ts"
import * as SqlRecoveryStore from "../../../src/store/SqlRecoveryStore.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"
import { listen } from "../../support/Backend.ts"
import {
  attemptOf,
  Databases,
  newDelivery,
  newIn,
  numbered,
  opened,
  openedRecovering
} from "../../support/StoreDatabases.ts"
import { eventually as comesTrue } from "../../support/eventually.ts"
import { postgresUnavailable, query, sharedPostgres, startPostgres } from "../../support/postgres/Postgres.ts"
import { deliveryStoreContract, recoveryContract } from "../contract/DeliveryStoreContract.ts"
import { eventually } from "../contract/Subject.ts"

/** Hides PostgreSQL's own time behind one that stands still until it is told to go on. */
const ownTime = (start: number) => `
  CREATE TABLE test_clock (millis bigint NOT NULL);
  INSERT INTO test_clock VALUES (${start});
  ${
  ["clock_timestamp", "statement_timestamp", "transaction_timestamp", "now"].map((name) => `
    CREATE FUNCTION ${name}() RETURNS timestamptz LANGUAGE sql STABLE
      AS 'SELECT pg_catalog.to_timestamp(millis / 1000.0) FROM public.test_clock';`).join("")
}`

const databases = Layer.effect(
  Databases,
  Effect.gen(function*() {
    const postgres = yield* sharedPostgres
    return Databases.of({
      create: Effect.gen(function*() {
        const url = Redacted.make(yield* postgres.createDatabase)
        const client = yield* PgClient.make({ url, maxConnections: 1 })
        const run = (statement: string) => Effect.asVoid(client.unsafe(statement))
        for (const statement of ownTime(Date.now()).split(";").filter((text) => text.trim() !== "")) {
          yield* run(statement)
        }
        // A function of ours counts only before one of PostgreSQL's if its schema is named first.
        yield* run(
          `ALTER DATABASE ${new URL(Redacted.value(url)).pathname.slice(1)} SET search_path = public, pg_catalog`
        )
        const elapse = (millis: number) => Effect.orDie(run(`UPDATE test_clock SET millis = millis + ${millis}`))
        return {
          open: (owner: string, lease?: number) =>
            opened(SqlDeliveryStore.layer({ kind: "postgres", url }, { owner, lease })),
          openRecovering: (owner: string) =>
            openedRecovering(SqlRecoveryStore.layer({ kind: "postgres", url }, { owner })),
          now: Effect.orDie(Effect.map(
            client.unsafe<{ readonly now: string }>("SELECT millis::text AS now FROM test_clock"),
            ([row]) => Number(row!.now)
          )),
          elapse,
          transactionsOf: (write: Effect.Effect<unknown, StoreUnavailable>) =>
            newIn(
              Effect.orDie(Effect.map(
                client.unsafe<{ readonly xmin: string }>("SELECT DISTINCT xmin::text AS xmin FROM delivery_rows"),
                (rows) => rows.map(({ xmin }) => xmin)
              )),
              write
            ),
          setBack: (millis: number) => elapse(-millis)
        }
      }).pipe(Effect.provide(Reactivity.layer), Effect.orDie)
    })
  })
)

/** Sizes of the messages that pass one way of a connection; a client's first has no type. */
const messageSizes = (head: number, seen: (size: number) => void) => {
  let skipped = head
  let start = Buffer.alloc(0)
  let left = 0
  return (chunk: Buffer) => {
    for (let at = 0; at < chunk.length;) {
      if (left > 0) {
        const taken = Math.min(left, chunk.length - at)
        left -= taken
        at += taken
        continue
      }
      start = Buffer.concat([start, chunk.subarray(at, at += 1)])
      if (start.length < skipped + 4) continue
      left = start.readUInt32BE(skipped) - 4
      seen(left)
      skipped = 1
      start = Buffer.alloc(0)
    }
  }
}

const unavailable = postgresUnavailable()

describe.skipIf(unavailable !== undefined)(unavailable ?? "PostgreSQL", () => {
  deliveryStoreContract("PostgreSQL", databases, { replicas: true })
  recoveryContract("PostgreSQL", databases, { replicas: true })

  it.live("is sent a large body in small messages, and sends it so", () =>
    Effect.gen(function*() {
      const postgres = yield* sharedPostgres
      const url = new URL(yield* postgres.createDatabase)
      const target = Number(url.port)
      let largest = 0
      const seen = (size: number) => void (largest = Math.max(largest, size))
      const proxy = createServer((client) => {
        const server = connect(target, "127.0.0.1")
        client.on("data", messageSizes(0, seen)).on("error", () => server.destroy())
        server.on("data", messageSizes(1, seen)).on("error", () => client.destroy())
        client.pipe(server).pipe(client)
      })
      url.port = String(yield* listen(proxy))
      const store = yield* opened(
        SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(url.href) }, { owner: "one" })
      )
      const body = randomBytes(25 * 1024 * 1024)
      const delivery = newDelivery({ body })
      // A busy machine may need longer than a statement has.
      yield* Effect.retry(store.write({ deliveries: [delivery], settlements: [] }), { times: 10 })
      const loaded = yield* store.load(delivery.id)
      assert.strictEqual(Buffer.compare(loaded!.body, body), 0)
      assert.isBelow(largest, 5 * 1024 * 1024)
      assert.deepStrictEqual(yield* query(url.href, "SELECT * FROM payload_parts"), [])
    }))

  it.live("keeps what it has confirmed when PostgreSQL is killed, and goes on when that is back", () =>
    Effect.gen(function*() {
      const postgres = yield* startPostgres
      const url = Redacted.make(yield* postgres.createDatabase)
      const store = yield* opened(SqlDeliveryStore.layer({ kind: "postgres", url }, { owner: "one" }))
      const [before, meanwhile, after] = [newDelivery(), newDelivery(), newDelivery()] as const
      const write = (delivery: NewDelivery) => store.write({ deliveries: [delivery], settlements: [] })
      yield* write(before)
      yield* postgres.kill
      assert.instanceOf(yield* Effect.flip(write(meanwhile)), StoreUnavailable)
      yield* postgres.start
      yield* Effect.retry(write(after), { schedule: Schedule.spaced(20), times: 500 })
      const { deliveries } = yield* store.list({}, { limit: 10 })
      assert.deepStrictEqual(deliveries.map(({ id }) => id), [after.id, before.id])
    }))

  it.live(
    "takes up what its files do, with rows and attempts, and less once something is deleted",
    () =>
      Effect.gen(function*() {
        const url = yield* (yield* startPostgres).createDatabase
        const open = (owner: string) =>
          opened(SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(url) }, { owner }))
        const deliveries = Array.from(
          { length: 40 },
          () => newDelivery({ to: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN" })
        )
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* open("one")
          yield* store.write({ deliveries, settlements: [] })
          yield* store.write({
            deliveries: [],
            settlements: deliveries.flatMap(({ id, targets }) =>
              targets.map(({ key }) => numbered({ id, key, attempt: attemptOf(1), become: "dead" }))
            )
          })
        }))
        // A session tells PostgreSQL at its end what it has inserted, if not before. Told after a VACUUM has counted the
        // rows, it would count twice until the next one.
        const untold = `SELECT 1 FROM pg_stat_user_tables
          WHERE relname IN ('attempts', 'delivery_rows') AND n_tup_ins < ${40 * 40}`
        yield* Effect.promise(() => comesTrue(async () => (await Effect.runPromise(query(url, untold))).length === 0))
        const store = yield* open("two")
        const files = `SELECT sum(pg_total_relation_size(name::regclass))::bigint AS bytes
        FROM unnest(ARRAY['deliveries', 'payloads', 'delivery_rows', 'attempts']) AS t(name)`
        const onDisk = Effect.map(query(url, files), ([row]) => Number(row.bytes))
        yield* query(url, "VACUUM ANALYZE")
        const full = yield* onDisk
        assert.isAbove(full, 40 * 40 * 200)
        const used = yield* store.usage
        assert.isAtMost(used, full)
        assert.isAtLeast(used, 0.4 * full)
        for (const table of ["attempts", "delivery_rows"]) yield* query(url, `DELETE FROM ${table}`)
        assert.isTrue(yield* eventually(store, Effect.map(store.usage, (bytes) => bytes < 0.5 * used)))
      })
  )
})
