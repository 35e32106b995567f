import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import { postgresUnavailable, sharedPostgres } from "../../support/postgres/Postgres.ts"
import { faults } from "../Faults.ts"

const unavailable = postgresUnavailable()

describe.skipIf(unavailable !== undefined)(unavailable ?? "PostgreSQL", () => {
  describe("a failure of PostgreSQL", () => {
    it.live("is the fault of what was to be written, of the question, or of the store", () =>
      Effect.gen(function*() {
        const url = Redacted.make(yield* (yield* sharedPostgres).createDatabase)
        const connect = PgClient.make({ url, maxConnections: 1 })
        const sql = yield* connect
        yield* sql`CREATE TABLE things (id integer PRIMARY KEY, name text NOT NULL CHECK (name <> ''), other text UNIQUE)`
        yield* sql`INSERT INTO things VALUES (1, 'one', NULL)`
        const long = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n)"
        const content = yield* faults(sql, [
          ["INSERT INTO things VALUES (1, 'again', NULL)", []],
          ["INSERT INTO things VALUES (2, NULL, NULL)", []],
          ["INSERT INTO things VALUES (3, '', NULL)", []],
          ["INSERT INTO things VALUES (4, $1, NULL)", ["a\0b"]],
          ["INSERT INTO things SELECT n, 'a', NULL FROM jsonb_to_recordset($1::jsonb) AS j(n integer, t text)", [
            "[{\"n\": 5, \"t\": \"\\u0000\"}]"
          ]],
          ["INSERT INTO things VALUES (99999999999, 'too large', NULL)", []],
          [`INSERT INTO things VALUES (6, 'too long for an index', ${long})`, []],
          ["INSERT INTO things VALUES ($1, 'can not be sent', NULL)", [2n ** 70n]]
        ])
        assert.deepStrictEqual(content, content.map(() => "content"))
        yield* sql`SET statement_timeout = '20ms'`
        assert.deepStrictEqual(yield* faults(sql, [["SELECT pg_sleep(10)", []]]), ["question"])
        yield* sql`SET default_transaction_read_only = on`
        const away = yield* faults(sql, [
          ["INSERT INTO things VALUES (7, 'seven', NULL)", []],
          ["INSERT INTO nowhere VALUES (8)", []],
          ["SELECT pg_terminate_backend(pg_backend_pid())", []]
        ])
        assert.deepStrictEqual(away, ["away", "away", "away"])
        const role = "CREATE ROLE guest LOGIN PASSWORD 'guest'"
        yield* Effect.andThen(connect, (owner) => owner.unsafe(role))
        const guest = new URL(Redacted.value(url))
        guest.username = guest.password = "guest"
        const other = yield* PgClient.make({ url: Redacted.make(guest.href), maxConnections: 1 })
        assert.deepStrictEqual(yield* faults(other, [["INSERT INTO things VALUES (9, 'nine', NULL)", []]]), ["away"])
      }).pipe(Effect.provide(Reactivity.layer)))
  })
})
