/** Stores whose time can be set forward. A SQLite file goes by the server's clock, a PostgreSQL by its own. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { query, sharedPostgres } from "../../support/postgres/Postgres.ts"
import { newStore } from "../durable/DurableProgram.ts"
import type { SetStore } from "./Time.ts"

export interface TimedStore {
  readonly url: string
  /** Servers on it at once. */
  readonly replicas: number
  readonly setTime: SetStore
}

export const sqlite: Effect.Effect<TimedStore, never, Scope.Scope> = Effect.map(newStore, (url) => ({
  url,
  replicas: 1,
  setTime: () => Promise.resolve()
}))

/** In this database, the store's statements find another clock before PostgreSQL's own. */
export const postgres: Effect.Effect<TimedStore> = Effect.gen(function*() {
  const server = yield* sharedPostgres
  const url = yield* server.createDatabase
  const name = new URL(url).pathname.slice(1)
  for (
    const statement of [
      "CREATE SCHEMA later",
      "CREATE TABLE later.clock AS SELECT 0::float8 AS ahead",
      `CREATE FUNCTION later.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
        'SELECT pg_catalog.statement_timestamp() + (SELECT ahead FROM later.clock) * interval ''1 millisecond'''`,
      `ALTER DATABASE ${name} SET search_path = later, pg_catalog, public`
    ]
  ) yield* query(url, statement)
  return {
    url,
    replicas: 2,
    setTime: async (ahead) => {
      await Effect.runPromise(query(url, `UPDATE later.clock SET ahead = ${ahead}`))
    }
  }
})
