/** What all statements of one process's store have in common. */
import type * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreDialect } from "./Dialect.ts"
import type { StoreUnusable } from "./contract/Unavailable.ts"

/** A database that was opened for the store, or that may still have to be. */
export interface StoreDatabase {
  readonly dialect: StoreDialect
  readonly sql: SqlClient
  /**
   * For questions that may take long and change nothing: operators' and measures'. They do not hold up what is written. None
   * is part of a transaction of `sql`, and one that takes too long fails.
   */
  readonly reading: SqlClient
  /** Succeeds when it has been checked and has the schema. */
  readonly ready: Effect.Effect<void, SqlError | StoreUnusable>
}

export interface StoreSession extends StoreDatabase {
  /** What this process calls itself on the rows that it owns. */
  readonly owner: string
  /** Milliseconds. */
  readonly lease: number
}
