/**
 * The store's PostgreSQL database, which is reached at the start or as soon as it can be.
 *
 * **Details**
 *
 * - A server that can't be reached within some seconds does not end the start. Operations fail until it is there. It is
 *   checked and gets its schema before the first operation that succeeds.
 * - A server that refuses for good ends the start: because of the login, the database, `synchronous_commit = off`, an
 *   encoding other than UTF8, a newer schema, or a pooler without transactions.
 */
import { PgTypes } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Reactivity from "effect/reactivity/Reactivity"
import { SqlClient } from "effect/sql/SqlClient"
import { AuthenticationError, isSqlError, type SqlError } from "effect/sql/SqlError"
import { migrate, schemaOf } from "../Migrations.ts"
import * as Question from "../Question.ts"
import { newestSchema, tooNew } from "../Schema.ts"
import type { StoreDatabase } from "../Session.ts"
import { isDefinite, reasonOf } from "../SqlErrors.ts"
import { StoreUnusable } from "../contract/Unavailable.ts"
import * as PostgresClient from "./Client.ts"
import * as PostgresDialect from "./Dialect.ts"
import { passwordsOf } from "./Password.ts"

export const open = Effect.fnUntraced(
  function*(
    url: Redacted.Redacted
  ): Effect.fn.Return<StoreDatabase, StoreUnusable, Scope.Scope | Reactivity.Reactivity> {
    if (namesSeveralHosts(Redacted.value(url))) return yield* unusable("its URL may name one host only")
    // Each connection reads the parameters when it is made.
    const parameters: Record<string, string> = { ...tuned }
    const passwords = passwordsOf(Redacted.value(url))
    const client = (maxConnections: number) =>
      Effect.mapError(
        PostgresClient.make({
          ...options,
          url,
          password: passwords[0] && Effect.sync(() => passwords[0]!),
          startupParameters: parameters,
          transactionSettings: tuned,
          maxConnections
        }),
        (error) => new StoreUnusable({ reason: reasonOf(error) })
      )
    const writing = yield* client(6)
    const reading = yield* client(2)
    const gate = Semaphore.makeUnsafe(1)
    let isChecked = false
    const attempted = Effect.provideService(checked(yield* unhurried(migrate)), SqlClient, writing)
    const fitting = Effect.catchIf(attempted, refusesParameters, () => {
      for (const name of Object.keys(tuned)) delete parameters[name]
      return attempted
    })
    const check = fitting.pipe(
      Effect.catchIf((error) => refusesPassword(error) && passwords.length > 1, () => {
        passwords.reverse()
        return fitting
      }),
      Effect.tap(() => Effect.sync(() => isChecked = true))
    )
    const ready = Effect.suspend(() =>
      isChecked ? Effect.void : gate.withPermit(Effect.suspend(() => isChecked ? Effect.void : check))
    )
    yield* ready.pipe(
      Effect.retry({ schedule: Schedule.spaced("250 millis"), while: isPassing, times: 8 }),
      Effect.catch((error) =>
        isPassing(error)
          ? Effect.void
          : Effect.fail(isSqlError(error) ? new StoreUnusable({ reason: reasonOf(error) }) : error)
      ),
      Effect.timeoutOption(longestStart)
    )
    return { dialect: PostgresDialect.make(writing), sql: writing, reading, ready }
  },
  (effect) => Effect.provide(effect, Reactivity.layer)
)

const isPassing = (error: SqlError | StoreUnusable): boolean => isSqlError(error) && !isDefinite(error)

/** Counts and times are read as numbers, because they are far below 2^53. */
const numbers = PgTypes.makeRegistry()
numbers.register<number | bigint>(PgTypes.OID.int8, {
  encode: (value) => {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigInt64(0, BigInt(value))
    return Result.succeed(bytes)
  },
  decode: (bytes) =>
    Result.succeed(Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigInt64(0)))
})

/** The largest message, in bytes. A body has at most 25 MiB and comes back in one message. */
const largestMessage = 64 * 1024 * 1024

const options = {
  applicationName: "sprayproxy",
  maxMessageSize: largestMessage,
  keepAlive: "10 seconds",
  types: numbers
} as const

/**
 * Settings with which nothing waits for long, and plans are made for tables that grow. A plan that was made while the
 * tables were empty reads them whole, and would be kept.
 */
const tuned = {
  statement_timeout: "4000",
  lock_timeout: "3000",
  idle_in_transaction_session_timeout: "10000",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  // Plans that are ruled out cost so much that the JIT would compile all of them.
  jit: "off"
}

/**
 * Whether the server is a PgBouncer, which knows few startup parameters and refuses the others. Sessions have to do
 * without any then.
 */
const refusesParameters = (error: SqlError | StoreUnusable): boolean =>
  isSqlError(error) && /startup parameter/.test(String(error.reason.cause))

const refusesPassword = (error: SqlError | StoreUnusable): boolean =>
  isSqlError(error) && error.reason instanceof AuthenticationError

/** PgBouncer says this under the code of any broken protocol. */
const refusesTransactions = (error: SqlError): boolean => /statement pooling mode/.test(String(error.reason.cause))

/** Whether the URL names several hosts, which libpq takes. The client would look them all up as one name. */
const namesSeveralHosts = (url: string): boolean =>
  /^[^/]*\/\/(?:[^/?#]*@)?[^/?#@]*,|[?&]host=[^&#]*(?:,|%2c)/i.test(url)

/** The longest wait of the start, because nothing listens meanwhile. */
const longestStart = "3 seconds"

const unusable = (reason: string) => Effect.fail(new StoreUnusable({ reason }))

/** Reads as a stream. Otherwise the client tells only that the connection was closed, and not the words before that. */
const beginning = Effect.gen(function*() {
  const sql = yield* SqlClient
  const session = yield* sql.reserve
  yield* Stream.runDrain(session.executeStream("BEGIN", [], undefined)).pipe(
    Effect.ensuring(Effect.ignore(session.executeUnprepared("ROLLBACK", [], undefined))),
    Effect.catchIf(
      refusesTransactions,
      () => unusable("it is a PgBouncer in statement mode, which has no transactions: set its pool_mode to transaction")
    )
  )
}).pipe(Effect.scoped)

const checked = Effect.fnUntraced(function*(migrated: typeof migrate) {
  const sql = yield* SqlClient
  yield* beginning
  // `reset_val` is what new sessions get. This session's own value has been set by then.
  const settings = yield* settingsOf(sql`
    SELECT name, reset_val FROM pg_settings WHERE name IN ('synchronous_commit', 'server_encoding')`)
  const valueOf = new Map(settings.map(({ name, reset_val }) => [name, reset_val]))
  if (valueOf.get("synchronous_commit") === "off") {
    return yield* unusable("its synchronous_commit is off: what it confirms could be lost")
  }
  // Any other encoding lacks characters that backends answer with, or takes bytes for characters.
  const encoding = valueOf.get("server_encoding")
  if (encoding !== undefined && encoding !== "UTF8") {
    return yield* unusable(`its encoding is ${encoding}: create it with ENCODING 'UTF8' TEMPLATE template0`)
  }
  // A migration locks out all others, even if there is nothing to do. So it is run only if it is needed.
  const [table] = yield* sql`SELECT 1 AS found WHERE to_regclass('sprayproxy_migrations') IS NOT NULL`
  const before = table === undefined ? 0 : yield* schemaOf
  if (before < newestSchema) {
    yield* migrated.pipe(
      Effect.catchTag("MigrationError", ({ cause }) =>
        Effect.fail(
          isSqlError(cause) ? cause : new StoreUnusable({ reason: "its schema can't be brought up to date" })
        ))
    )
  }
  const schema = yield* schemaOf
  if (schema > newestSchema) return yield* unusable(tooNew(schema))
}, Effect.catchTag("StoreUnavailable", ({ reason }) => unusable(reason)))

const settingsOf = Question.rowsOf(Schema.Struct({ name: Schema.String, reset_val: Schema.NullOr(Schema.String) }))

/** Goes on when those who wait for it give up, because an index of millions of rows takes longer than anybody waits. */
const unhurried = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
  const scope = yield* Effect.scope
  let running: Fiber.Fiber<A, E> | undefined
  return Effect.suspend(() =>
    running !== undefined && running.pollUnsafe() === undefined
      ? Fiber.join(running)
      : Effect.flatMap(Effect.forkIn(effect, scope), (fiber) => {
        running = fiber
        return Fiber.join(fiber)
      })
  )
})
