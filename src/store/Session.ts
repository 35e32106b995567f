/** The part that all statements of one process's store share. */
import type * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreDialect } from "./Dialect.ts"
import type { StoreUnusable } from "./contract/Unavailable.ts"

/** A database for the store, which is open or may still have to be opened. */
export interface StoreDatabase {
  readonly dialect: StoreDialect
  readonly sql: SqlClient
  /**
   * For questions of operators and measures, which may take long and change nothing. They do not hold up writes. None
   * is part of a transaction of `sql`, and one that takes too long fails.
   */
  readonly reading: SqlClient
  /** Succeeds when the database has been checked and has the schema. */
  readonly ready: Effect.Effect<void, SqlError | StoreUnusable>
}

/** A store's database, as this process uses it. */
export interface StoreSession extends StoreDatabase {
  /** The name of this process on the rows that it owns. */
  readonly owner: string
  /** The length of a lease in milliseconds. */
  readonly lease: number
}
