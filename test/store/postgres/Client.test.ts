import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlDeliveryStore from "../../../src/store/SqlDeliveryStore.ts"
import * as PostgresClient from "../../../src/store/postgres/Client.ts"
import { newDelivery, opened } from "../../support/StoreDatabases.ts"
import { pgBouncerUnavailable, startPgBouncer } from "../../support/postgres/PgBouncer.ts"
import { postgresUnavailable, query, sharedPostgres, startPostgres } from "../../support/postgres/Postgres.ts"

const nameOf = (url: string) => new URL(url).pathname.slice(1)

const openStore = (url: string) =>
  opened(SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(url) }, { owner: "one" }))

const write = (store: Effect.Success<ReturnType<typeof openStore>>) =>
  store.write({ deliveries: [newDelivery()], settlements: [] })

const connected = (url: string, maxConnections = 2) =>
  PostgresClient.make({
    url: Redacted.make(url),
    maxConnections,
    transactionSettings: { statement_timeout: "4000", lock_timeout: "3000" }
  }).pipe(Effect.provide(Reactivity.layer))

const eventually = Effect.retry({ schedule: Schedule.spaced(20), times: 500 })

/** Notes what `synchronous_commit` is when a delivery is committed. */
const noteCommits = Effect.fnUntraced(function*(url: string) {
  yield* query(url, "CREATE TABLE commits (setting text)")
  yield* query(
    url,
    `CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO commits VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$`
  )
  yield* query(
    url,
    `CREATE CONSTRAINT TRIGGER noting AFTER INSERT ON deliveries DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION note_commit()`
  )
})

const endSessions = (url: string) =>
  query(
    url,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()`
  )

const withoutPostgres = postgresUnavailable()

describe.skipIf(withoutPostgres !== undefined)(withoutPostgres ?? "PostgreSQL", () => {
  describe("a session", () => {
    it.live("confirms only what is on disk, whatever the database says since the start", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        const store = yield* openStore(url)
        yield* noteCommits(url)
        yield* query(url, `ALTER DATABASE ${nameOf(url)} SET synchronous_commit = off`)
        yield* endSessions(url)
        yield* eventually(write(store))
        assert.deepStrictEqual(yield* query(url, "SELECT setting FROM commits"), [{ setting: "on" }])
      }))

    it.live("keeps a level that promises more", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        yield* query(url, `ALTER DATABASE ${nameOf(url)} SET synchronous_commit = remote_apply`)
        const store = yield* openStore(url)
        yield* noteCommits(url)
        yield* write(store)
        assert.deepStrictEqual(yield* query(url, "SELECT setting FROM commits"), [{ setting: "remote_apply" }])
      }))

    it.live("names its statements where it is the server's own", () =>
      Effect.gen(function*() {
        const sql = yield* connected(yield* (yield* sharedPostgres).createDatabase)
        const [row] = yield* Effect.andThen(
          sql`SELECT 1`,
          sql`SELECT count(*)::integer AS count FROM pg_prepared_statements`
        ).pipe(sql.withTransaction)
        assert.isAbove((row as { count: number }).count, 0)
      }))

    it.live(
      "of a server that is read-only is none, and another is tried with each question",
      () =>
        Effect.gen(function*() {
          const url = yield* (yield* sharedPostgres).createDatabase
          const store = yield* openStore(url)
          yield* query(url, `ALTER DATABASE ${nameOf(url)} SET default_transaction_read_only = on`)
          yield* endSessions(url)
          const refused = Effect.flip(store.due([])).pipe(
            Effect.repeat({
              schedule: Schedule.spaced(20),
              times: 500,
              until: ({ reason }) => reason === "PostgreSQL is read-only"
            })
          )
          assert.strictEqual((yield* refused).reason, "PostgreSQL is read-only")
          yield* query(
            (yield* sharedPostgres).url("postgres"),
            `ALTER DATABASE ${nameOf(url)} RESET default_transaction_read_only`
          )
          // The pool may have made one before.
          yield* eventually(write(store))
        })
    )

    it.live(
      "that has become read-only is replaced, and all others are looked at before they are used",
      () =>
        Effect.gen(function*() {
          const server = yield* startPostgres
          const url = yield* server.createDatabase
          const store = yield* openStore(url)
          yield* Effect.all(Array.from({ length: 6 }, () => write(store)), { concurrency: "unbounded" })
          // A new session is as it was: what the database says goes over what the server says.
          yield* query(url, `ALTER DATABASE ${nameOf(url)} SET default_transaction_read_only = off`)
          yield* query(url, "ALTER SYSTEM SET default_transaction_read_only = on")
          yield* query(url, "SELECT pg_reload_conf()")
          const error = yield* Effect.flip(
            write(store).pipe(Effect.repeat({ schedule: Schedule.spaced(20), times: 500 }))
          )
          assert.strictEqual(error.reason, "PostgreSQL is read-only")
          // Each hears from the server in its own time.
          yield* eventually(Effect.all(Array.from({ length: 6 }, () => write(store)), { concurrency: "unbounded" }))
        })
    )
  })
})

const withoutPgBouncer = pgBouncerUnavailable()

describe.skipIf(withoutPgBouncer !== undefined)(withoutPgBouncer ?? "PgBouncer", () => {
  describe("a session of PgBouncer in transaction mode", () => {
    const pooled = Effect.gen(function*() {
      const direct = yield* (yield* sharedPostgres).createDatabase
      const url = yield* startPgBouncer(direct, { pool_mode: "transaction", default_pool_size: 2 })
      return { direct, url }
    })

    it.live("leaves no named statement behind", () =>
      Effect.gen(function*() {
        const sql = yield* connected((yield* pooled).url)
        yield* sql.withTransaction(sql`SELECT 1`)
        assert.deepStrictEqual(yield* sql`SELECT name FROM pg_prepared_statements`, [])
      }))

    it.live("has the limits in each transaction, and leaves them there", () =>
      Effect.gen(function*() {
        const sql = yield* connected((yield* pooled).url)
        const limits =
          sql`SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock`
        assert.deepStrictEqual(yield* sql.withTransaction(limits), [{ statement: "4s", lock: "3s" }])
        assert.deepStrictEqual(yield* limits, [{ statement: "0", lock: "0" }])
      }))

    it.live("confirms only what is on disk, whatever the database says since the start", () =>
      Effect.gen(function*() {
        const { direct, url } = yield* pooled
        const store = yield* openStore(url)
        yield* noteCommits(direct)
        yield* query(direct, `ALTER DATABASE ${nameOf(direct)} SET synchronous_commit = off`)
        yield* endSessions(direct)
        const known = newDelivery()
        const writeKnown = (...others: ReadonlyArray<typeof known>) =>
          store.write({ deliveries: [known, ...others], settlements: [] })
        yield* eventually(writeKnown())
        yield* writeKnown(newDelivery())
        const commits = yield* query(direct, "SELECT setting FROM commits")
        assert.deepStrictEqual(commits, [{ setting: "on" }, { setting: "on" }])
      }))

    it.live("is enough for many transactions at once", () =>
      Effect.gen(function*() {
        const sql = yield* connected((yield* pooled).url, 8)
        const transaction = sql.withTransaction(Effect.all([sql`SELECT 1 AS one`, sql`SELECT 2 AS two`]))
        const found = yield* Effect.all(Array.from({ length: 200 }, () => transaction), { concurrency: 8 })
        assert.strictEqual(found.length, 200)
      }))
  })
})
