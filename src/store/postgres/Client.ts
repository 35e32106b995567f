/**
 * `effect/sql`'s client for PostgreSQL, with sessions that are checked before they are used. The first user of a
 * session checks it, and once one has turned out to be read-only, each is checked again.
 *
 * **Details**
 *
 * - A session of a standby, or of a server that has become one, is thrown away. The next session may lead to the server
 *   that took over.
 * - In every session a commit is on disk when it is confirmed, whatever role, database or server are set to later. A
 *   stricter level (`remote_apply`) is kept.
 * - A session that is not the server's own is a pooler's, such as PgBouncer's. Behind a pooler the server's session
 *   changes with each transaction, so nothing that a session keeps can be relied on. Statements are then unnamed, and
 *   transactions bring their limits with them.
 */
import { PgClient, type PgConnection, PgPool } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Reactivity } from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"

export interface PostgresClientOptions extends PgPool.Config {
  /** The settings of each transaction, if sessions can't keep them. */
  readonly transactionSettings: Readonly<Record<string, string>>
}

export const make = Effect.fnUntraced(function*(
  options: PostgresClientOptions
): Effect.fn.Return<SqlClient.SqlClient, SqlError, Scope.Scope | Reactivity> {
  const pool = yield* PgPool.make(options)
  const sessions = new Sessions(options.transactionSettings)

  const checkedOut: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope> = Effect.flatMap(
    pool.get,
    (connection) => {
      if (sessions.isChecked(connection)) return Effect.succeed(connection)
      const isNew = sessions.isNew(connection)
      return Effect.as(sessions.check(connection), connection).pipe(
        Effect.catch((error) => Effect.andThen(pool.invalidate(connection), isNew ? Effect.fail(error) : checkedOut))
      )
    }
  )

  return yield* SqlClient.make({
    driver: "pg",
    compiler: PgClient.makeCompiler(),
    acquirer: Effect.map(checkedOut, (connection) => new Session(connection, sessions)),
    transactionAcquirer: checkedOut.pipe(
      Effect.flatMap((connection) => connection.pin),
      Effect.map((connection) => new Session(connection, sessions))
    ),
    prepareTransactionControls: true,
    beginTransaction: begin,
    commit: (session) => Effect.flatMap(session.executeRaw("COMMIT", []), isCommitted),
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    spanAttributes: []
  })
})

const begin = "BEGIN"

/** The state that the sessions of a pool share. */
class Sessions {
  readonly limits: string
  isPooled = false
  #checks = 0
  readonly #checked = new WeakMap<PgConnection.PgConnection, number>()

  constructor(settings: Readonly<Record<string, string>>) {
    const limits = Object.entries(settings).map(([name, value]) => `set_config('${name}', '${value}', true)`)
    this.limits = `SELECT ${[...limits, durably].join(", ")}`
  }

  isNew(connection: PgConnection.PgConnection): boolean {
    return !this.#checked.has(connection)
  }

  isChecked(connection: PgConnection.PgConnection): boolean {
    return this.#checked.get(connection) === this.#checks
  }

  check(connection: PgConnection.PgConnection): Effect.Effect<void, SqlError> {
    const round = this.#checks
    return Effect.flatMap(connection.query(checkStatement, [connection.processId], false), ({ rows: [found] }) => {
      if (found!["is_own"] !== true) this.isPooled = true
      if (found!["is_read_only"] === true) return Effect.fail(readOnly())
      this.#checked.set(connection, round)
      return Effect.void
    })
  }

  noteFailure(error: SqlError): void {
    const { code } = error.reason.cause as { readonly code?: string }
    if (code === readOnlyState) this.#checks += 1
    if (code === "26000" || code === "42P05") this.isPooled = true
  }
}

class Session implements Connection {
  readonly #connection: PgConnection.PgConnection
  readonly #sessions: Sessions

  constructor(connection: PgConnection.PgConnection, sessions: Sessions) {
    this.#connection = connection
    this.#sessions = sessions
  }

  executeRaw(sql: string, params: ReadonlyArray<unknown>, prepare = true) {
    return this.#watched(this.#connection.query(sql, params, prepare && !this.#sessions.isPooled))
  }

  execute(sql: string, params: ReadonlyArray<unknown>) {
    const rows = Effect.map(this.executeRaw(sql, params), (result) => result.rows)
    if (sql !== begin || !this.#sessions.isPooled) return rows
    const limited = Effect.onError(
      this.executeRaw(this.#sessions.limits, []),
      () => Effect.ignore(this.executeRaw("ROLLBACK", []))
    )
    return Effect.andThen(rows, Effect.as(limited, noRows))
  }

  executeUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return Effect.map(this.executeRaw(sql, params, false), (result) => result.rows)
  }

  executeValues(sql: string, params: ReadonlyArray<unknown>, prepare = true) {
    return this.#watched(this.#connection.queryValues(sql, params, prepare && !this.#sessions.isPooled))
  }

  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.executeValues(sql, params, false)
  }

  executeStream(sql: string, params: ReadonlyArray<unknown>) {
    return Stream.tapError(
      this.#connection.stream(sql, params),
      (error) => Effect.sync(() => this.#sessions.noteFailure(error))
    )
  }

  #watched<A>(self: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.tapError(self, (error) => Effect.sync(() => this.#sessions.noteFailure(error)))
  }
}

const noRows: ReadonlyArray<never> = []

/**
 * To be run in a statement that writes, or before others in a transaction: its commit is then on disk when it is
 * confirmed.
 */
export const durably =
  "CASE WHEN current_setting('synchronous_commit', true) = 'off' THEN set_config('synchronous_commit', 'on', true) END"

/** Checks a session in one round trip. OFFSET keeps the settings from being read after they have been changed. */
const checkStatement = `
  SELECT is_own, is_read_only, CASE WHEN is_own THEN
    set_config('synchronous_commit', CASE commits WHEN 'off' THEN 'on' ELSE commits END, false) END
  FROM (
    SELECT pg_backend_pid() = $1 AS is_own, current_setting('transaction_read_only') = 'on' AS is_read_only,
      current_setting('synchronous_commit', true) AS commits
    OFFSET 0
  ) AS session`

const readOnlyState = "25006"

const readOnly = () =>
  new SqlError({
    reason: new ConnectionError({
      cause: Object.assign(new Error("the session is read-only"), { code: readOnlyState }),
      message: "the session is read-only",
      operation: "connect"
    })
  })

/** PostgreSQL answers ROLLBACK to the COMMIT of a transaction that has failed. */
const isCommitted = (result: unknown): Effect.Effect<void, SqlError> =>
  (result as PgConnection.Result).command === "ROLLBACK"
    ? Effect.fail(new SqlError({ reason: new UnknownError({ cause: new Error("rolled back"), operation: "commit" }) }))
    : Effect.void
