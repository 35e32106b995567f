/** A real PostgreSQL for tests: databases on the server that a whole run shares, or a server of a test's own. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Reactivity from "effect/reactivity/Reactivity"
import { randomUUID } from "node:crypto"
import { findBinaries } from "./Binaries.ts"
import { Server, type ServerAddress, type Template, urlOf } from "./Server.ts"

export interface Postgres {
  /** The URL of a database, with user and password. */
  readonly url: (database: string) => string
  /** Creates a database, and returns its URL. */
  readonly createDatabase: Effect.Effect<string>
}

/** A server that nobody else uses. */
export interface OwnPostgres extends Postgres {
  /** Ends connections, then stops the server. */
  readonly stop: Effect.Effect<void>
  /** Starts a stopped or killed server, on the same port. */
  readonly start: Effect.Effect<void>
  /** Sends SIGKILL to the whole server. As in a crash, only what is on disk is left. */
  readonly kill: Effect.Effect<void>
  /** The server's process; undefined while it is stopped. */
  readonly pid: () => number | undefined
}

/** The result of a test run's setup, for the processes that run the files. */
export type RunPostgres = { readonly unavailable: true } | {
  readonly binaries: string
  readonly template: Template
  readonly shared: ServerAddress
}

/** The variable that holds a `RunPostgres` as JSON. Only a run of tests has it. */
export const runVariable = "TEST_POSTGRES"

const ofRun = (): RunPostgres | undefined => {
  const text = process.env[runVariable]
  return text === undefined ? undefined : JSON.parse(text) as RunPostgres
}

let found: { readonly directory: string | undefined } | undefined
const binaries = (): string | undefined => {
  const run = ofRun()
  if (run !== undefined) return "binaries" in run ? run.binaries : undefined
  return (found ??= { directory: findBinaries() }).directory
}

/**
 * Why there is no PostgreSQL here. Undefined if there is one. The reason is also written to stderr, because a skipped
 * test is easily overlooked.
 */
export const postgresUnavailable = (): string | undefined => {
  if (binaries() !== undefined) return undefined
  const reason =
    `no PostgreSQL that runs on ${process.platform}-${process.arch}: npm brought none, and none is installed`
  process.stderr.write(`\nSKIPPED: ${reason}\n\n`)
  return reason
}

/**
 * The run's server. It has databases of other tests. So a test that stops it, or changes it for all, starts one of its
 * own.
 */
export const sharedPostgres: Effect.Effect<Postgres> = Effect.sync(() => {
  const run = ofRun()
  if (run === undefined || !("shared" in run)) throw new Error("no PostgreSQL was started for these tests")
  return postgresAt(() => run.shared)
})

/**
 * A server that is stopped at the end of the scope, with its files removed. It dies if there is no PostgreSQL
 * (`postgresUnavailable`).
 */
export const startPostgres: Effect.Effect<OwnPostgres, never, Scope.Scope> = Effect.gen(function*() {
  const directory = binaries()
  if (directory === undefined) return yield* Effect.die(new Error(postgresUnavailable()))
  const run = ofRun()
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => new Server(directory, run !== undefined && "template" in run ? run.template : undefined)),
    (created) => Effect.promise(() => created.dispose())
  )
  yield* Effect.promise(() => server.initialise().then(() => server.start()))
  return {
    ...postgresAt(() => server.address),
    stop: Effect.promise(() => server.end("SIGINT")),
    start: Effect.promise(() => server.start()),
    kill: Effect.promise(() => server.end("SIGKILL")),
    pid: () => server.pid()
  }
})

const postgresAt = (address: () => ServerAddress): Postgres => ({
  url: (database) => urlOf(address(), database),
  createDatabase: Effect.suspend(() => {
    const name = `test_${randomUUID().replaceAll("-", "")}`
    return Effect.as(query(urlOf(address(), "postgres"), `CREATE DATABASE ${name}`), urlOf(address(), name))
  })
})

/** Runs a statement on a connection of its own, and returns its rows. */
export const query = (url: string, statement: string): Effect.Effect<ReadonlyArray<any>> =>
  Effect.flatMap(
    PgClient.make({ url: Redacted.make(url), maxConnections: 1 }),
    (client) => client.unsafe(statement)
  ).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.orDie)
