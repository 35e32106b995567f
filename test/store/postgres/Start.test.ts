import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Reactivity from "effect/reactivity/Reactivity"
import { SqlClient } from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { connect, createServer } from "node:net"
import { tooNew } from "../../../src/store/Schema.ts"
import { listen } from "../../support/Backend.ts"
import { pgBouncerUnavailable, startPgBouncer } from "../../support/postgres/PgBouncer.ts"
import { postgresUnavailable, query, sharedPostgres, startPostgres } from "../../support/postgres/Postgres.ts"
import { delivery, expectKept, fillFirstSchema, firstSchema, refusal, started } from "../Starting.ts"

const postgres = (url: string) => ({ kind: "postgres", url: Redacted.make(url) }) as const
const nameOf = (url: string) => new URL(url).pathname.slice(1)

const unavailable = postgresUnavailable()

describe.skipIf(unavailable !== undefined)(unavailable ?? "PostgreSQL", () => {
  describe("a store in PostgreSQL", () => {
    it.live("gets its schema once, however many begin at once", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        const write = Effect.scoped(
          Effect.flatMap(started(postgres(url)), (store) => store.write({ deliveries: [delivery()], settlements: [] }))
        )
        yield* Effect.all(Array.from({ length: 5 }, () => write), { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* query(url, "SELECT count(*)::integer AS n FROM deliveries"), [{ n: 5 }])
      }))

    it.live("goes on with what an earlier version has stored", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        yield* Effect.flatMap(
          PgClient.make({ url: Redacted.make(url), maxConnections: 1 }),
          (client) => Effect.provideService(fillFirstSchema, SqlClient, client)
        ).pipe(Effect.scoped, Effect.provide(Reactivity.layer))
        yield* Effect.scoped(Effect.flatMap(started(postgres(url)), expectKept))
      }))

    it.live("has to mean what it confirms", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        yield* query(url, `ALTER DATABASE ${nameOf(url)} SET synchronous_commit = off`)
        assert.strictEqual(
          yield* refusal(postgres(url)),
          "its synchronous_commit is off: what it confirms could be lost"
        )
        assert.deepStrictEqual(yield* query(url, "SELECT to_regclass('deliveries')::text AS name"), [{ name: null }])
        yield* query(url, `ALTER DATABASE ${nameOf(url)} SET synchronous_commit = local`)
        yield* Effect.scoped(started(postgres(url)))
      }))

    it.live.each(["LATIN1", "EUC_JP", "SQL_ASCII"])(
      "is none in %s, which lacks characters",
      (encoding) =>
        Effect.gen(function*() {
          const server = yield* sharedPostgres
          const name = `of_${encoding.toLowerCase()}`
          yield* query(
            server.url("postgres"),
            `CREATE DATABASE ${name} ENCODING '${encoding}' LOCALE 'C' TEMPLATE template0`
          )
          const reason = `its encoding is ${encoding}: create it with ENCODING 'UTF8' TEMPLATE template0`
          assert.strictEqual(yield* refusal(postgres(server.url(name))), reason)
          const tables = yield* query(server.url(name), "SELECT to_regclass('deliveries')::text AS name")
          assert.deepStrictEqual(tables, [{ name: null }])
        })
    )

    it.live("is none of a newer program", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        yield* Effect.scoped(started(postgres(url)))
        yield* query(url, "INSERT INTO sprayproxy_migrations (migration_id, name) VALUES (7, 'newer')")
        assert.strictEqual(yield* refusal(postgres(url)), tooNew(7))
      }))

    it.live("is none of another program", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        yield* query(url, "CREATE TABLE deliveries (id text)")
        assert.match(yield* refusal(postgres(url)), /^PostgreSQL refused with SQLSTATE 42P07$/)
        assert.deepStrictEqual(yield* query(url, "SELECT to_regclass('payloads')::text AS name"), [{ name: null }])
      }))

    it.live("refuses whom it does not know, and nothing of that is told", () =>
      Effect.gen(function*() {
        const server = yield* sharedPostgres
        const url = new URL(yield* server.createDatabase)
        const missing = server.url("missing")
        url.password = "s3cret"
        assert.strictEqual(yield* refusal(postgres(url.href)), "PostgreSQL refused the user or the password")
        assert.strictEqual(yield* refusal(postgres(missing)), "PostgreSQL has no such database")
        url.searchParams.set("sslmode", "s3cret")
        assert.strictEqual(yield* refusal(postgres(url.href)), "its URL can't be used")
      }))

    it.live("is one host's", () =>
      Effect.gen(function*() {
        for (
          const url of [
            "postgres://me:a,b@one.test,two.test/x",
            "postgres://one.test:1,two.test:2/x",
            "postgres:///x?host=a,b"
          ]
        ) assert.strictEqual(yield* refusal(postgres(url)), "its URL may name one host only")
        const url = yield* (yield* sharedPostgres).createDatabase
        yield* started(postgres(`${url}?application_name=a,b`))
      }))

    it.live(
      "does not hold up the start when it is out of reach, and is used when it comes",
      () =>
        Effect.gen(function*() {
          const server = yield* startPostgres
          const url = yield* server.createDatabase
          yield* server.stop
          const store = yield* started(postgres(url))
          const error = yield* Effect.flip(store.write({ deliveries: [delivery()], settlements: [] }))
          assert.strictEqual(error.reason, "PostgreSQL can't be reached (ECONNREFUSED)")
          yield* server.start
          yield* store.write({ deliveries: [delivery()], settlements: [] })
          assert.strictEqual((yield* store.list({}, { limit: 10 })).deliveries.length, 1)
        })
    )

    it.live("does not hold up the start for long when nothing answers", () =>
      Effect.gen(function*() {
        const port = yield* listen(createServer(() => {}))
        const before = performance.now()
        const store = yield* started(postgres(`postgres://somebody@127.0.0.1:${port}/silent`))
        assert.isBelow(performance.now() - before, 15_000)
        assert.isDefined((yield* Effect.flip(store.backlogs)).reason)
      }))

    it.live(
      "is used through a proxy that knows few parameters, and was away at the start",
      () =>
        Effect.gen(function*() {
          const server = yield* sharedPostgres
          const url = new URL(yield* server.createDatabase)
          const target = Number(url.port)
          let isAway = true
          const proxy = createServer((client) => {
            if (isAway) return void client.destroy()
            client.once("data", (startup) => {
              // PgBouncer's words.
              const text = "SFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0"
              if (startup.includes("statement_timeout")) {
                const head = Buffer.from([0x45, 0, 0, 0, 4 + text.length])
                return void client.end(Buffer.concat([head, Buffer.from(text)]))
              }
              const upstream = connect(target, "127.0.0.1")
              upstream.on("error", () => client.destroy())
              upstream.write(startup)
              client.pipe(upstream).pipe(client)
            })
          })
          url.port = String(yield* listen(proxy))
          const store = yield* started(postgres(url.href))
          isAway = false
          yield* store.write({ deliveries: [delivery()], settlements: [] })
          assert.strictEqual((yield* store.list({}, { limit: 10 })).deliveries.length, 1)
        })
    )

    it.live("is migrated for as long as that takes, and used when it is over", () =>
      Effect.gen(function*() {
        const url = yield* (yield* sharedPostgres).createDatabase
        const other = yield* PgClient.make({ url: Redacted.make(url), maxConnections: 2 })
        yield* Effect.provideService(firstSchema, SqlClient, other)
        const writing = yield* Deferred.make<void>()
        const writer = yield* Effect.forkScoped(other.withTransaction(Effect.gen(function*() {
          yield* other`LOCK TABLE delivery_rows IN ROW EXCLUSIVE MODE`
          yield* Deferred.succeed(writing, undefined)
          return yield* Effect.never
        })))
        yield* Deferred.await(writing)
        const store = yield* started(postgres(url))
        assert.match((yield* Effect.flip(store.due([]))).reason, /^PostgreSQL('s lock was not| took too long)/)
        yield* Fiber.interrupt(writer)
        yield* Effect.retry(store.due([]), { schedule: Schedule.spaced(20), times: 500 })
        assert.deepStrictEqual(yield* store.list({}, { limit: 10 }), { deliveries: [], next: undefined })
      }).pipe(Effect.provide(Reactivity.layer)), 30_000)

    it.live.skipIf(pgBouncerUnavailable() !== undefined)(
      "is none behind a PgBouncer that knows no transactions",
      () =>
        Effect.gen(function*() {
          const url = yield* startPgBouncer(yield* (yield* sharedPostgres).createDatabase, { pool_mode: "statement" })
          assert.strictEqual(
            yield* refusal(postgres(url)),
            "it is a PgBouncer in statement mode, which has no transactions: set its pool_mode to transaction"
          )
        })
    )

    it.live.each(
      [
        ["read-only", (role: string) => `ALTER ROLE ${role} SET default_transaction_read_only = on`],
        ["another's", (role: string) => `REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM ${role}`]
      ] as const
    )("takes no probe when it has become %s", ([, refuse]) =>
      Effect.gen(function*() {
        const url = new URL(yield* (yield* sharedPostgres).createDatabase)
        const administrator = url.href
        const role = `role_${randomUUID().replaceAll("-", "")}`
        yield* query(administrator, `CREATE ROLE ${role} LOGIN PASSWORD 'word'`)
        yield* query(administrator, `ALTER DATABASE ${nameOf(administrator)} OWNER TO ${role}`)
        url.username = role
        url.password = "word"
        const store = yield* started(postgres(url.href))
        yield* store.probe
        yield* query(administrator, refuse(role))
        yield* query(administrator, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${role}'`)
        const refused = Effect.filterOrFail(Effect.flip(store.probe), ({ reason }) =>
          /is read-only|does not permit/.test(reason))
        const { fault } = yield* Effect.retry(refused, { schedule: Schedule.spaced(20), times: 100 })
        assert.strictEqual(fault, "away")
      }))

    it.live("may stop and come back", () =>
      Effect.gen(function*() {
        const server = yield* startPostgres
        const store = yield* started(postgres(yield* server.createDatabase))
        yield* store.write({ deliveries: [delivery()], settlements: [] })
        yield* server.stop
        const during = store.write({ deliveries: [delivery()], settlements: [] })
        for (const operation of [Effect.asVoid(during), Effect.asVoid(store.clearBackends(new Set()))]) {
          assert.match((yield* Effect.flip(operation)).reason, /^PostgreSQL can't be reached|^the database can't/)
        }
        yield* server.start
        yield* store.write({ deliveries: [delivery()], settlements: [] })
        assert.strictEqual((yield* store.list({}, { limit: 10 })).deliveries.length, 2)
      }))
  })
})
