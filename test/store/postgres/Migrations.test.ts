/** Stores that an earlier version of the program has left. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import { SqlClient } from "effect/sql/SqlClient"
import { schemaOf } from "../../../src/store/Migrations.ts"
import { newestSchema } from "../../../src/store/Schema.ts"
import { postgresUnavailable, sharedPostgres } from "../../support/postgres/Postgres.ts"
import { fillFirst, use } from "../FirstSchema.ts"

describe("a store of an earlier schema", () => {
  const unavailable = postgresUnavailable()

  it.live.skipIf(unavailable !== undefined)(
    "in PostgreSQL is brought up to date, with what is in it",
    () =>
      Effect.gen(function*() {
        const url = Redacted.make(yield* (yield* sharedPostgres).createDatabase)
        const client = yield* PgClient.make({ url, maxConnections: 2 })
        const ids = yield* Effect.provideService(fillFirst, SqlClient, client)
        yield* Effect.scoped(use({ kind: "postgres", url }, ids))
        assert.strictEqual(yield* Effect.provideService(schemaOf, SqlClient, client), newestSchema)
      }).pipe(Effect.provide(Reactivity.layer))
  )
})
