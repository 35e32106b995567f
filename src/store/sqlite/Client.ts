/**
 * A `SqlClient` for one SQLite file of our own, on Node's `node:sqlite`.
 *
 * **Details**
 *
 * - `open` opens the file in a worker thread. As long as the client's scope is open, no other process of ours opens it.
 *   Its log is written ahead (WAL) and synced with each commit (`synchronous=FULL`).
 * - `reading` is a connection in a second thread, one for each life of the first. Its questions hold up no writes. They
 *   are served one by one, and each has some seconds.
 * - In a statement, `store_now()` is the time of the client's clock when the statement is sent. `store_in_time(…)`,
 *   called for each row, ends a statement that looks through too much.
 * - Numbers come back as numbers. One over 2^53 fails. `undefined` can't be bound.
 * - A file that can't be written to for now is opened for reading, and `open` tries again after a second.
 * - If the thread ends, its disk fails or its file is removed, operations under way fail, and so do all others until
 *   `open` has opened the file again.
 *
 * **Gotchas**
 *
 * A statement that was sent to a thread is carried out, even if nobody waits for it any more. A later statement comes
 * after it.
 */
import { Clock } from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import type { WireResult } from "./Messages.ts"
import type { SqliteOptions } from "./Paths.ts"
import { type BulkStatement, connectionError, Thread } from "./Thread.ts"

/** One opening of the file. */
export interface Opening {
  readonly warnings: ReadonlyArray<string>
  /** Whether the file has to be opened again. */
  readonly isOver: () => boolean
  /** The reason, if something failed. */
  readonly failure: () => SqlError | undefined
}

export interface SqliteClient extends SqlClient.SqlClient {
  /**
   * Runs all statements in one message to the thread. They are part of the open transaction, or else a transaction of
   * their own.
   */
  readonly atomically: (
    statements: ReadonlyArray<BulkStatement>
  ) => Effect.Effect<ReadonlyArray<BulkResult>, SqlError>
  /** For questions that only read. */
  readonly reading: SqlClient.SqlClient
  /** Opens the file if it is not open. After a failure it is tried again when a second has passed. */
  readonly open: Effect.Effect<Opening, SqlError>
}

interface BulkResult {
  readonly rows: ReadonlyArray<any>
  /** How many rows the statement has written. */
  readonly changes: number
}

type Row = { readonly [column: string]: unknown }

export interface SqliteClientOptions extends SqliteOptions {
  /** Unix time in milliseconds. */
  readonly clock: () => number
  /** Statements that go along with a transaction of `atomically`. */
  readonly beside?: (() => ReadonlyArray<BulkStatement>) | undefined
}

export const make = (options: SqliteClientOptions): Effect.Effect<SqliteClient, never, Scope.Scope> =>
  Effect.provide(makeClient(options), Reactivity.layer)

/** Milliseconds between a failure to open the file and the next attempt, because each attempt begins a thread. */
const openedAgainAfter = 1_000

/** Milliseconds that a question waits for its answer. */
const patienceForAnswers = 5_000

const makeClient = Effect.fnUntraced(function*({ beside = () => [], ...options }: SqliteClientOptions) {
  const time = yield* Clock
  let writing: Thread | undefined
  let opening: Opening | undefined
  /** `at` is a time of the monotonic clock. */
  let failed: { readonly error: SqlError; readonly at: number } | undefined
  const now = () => Number(time.monotonicTimeNanosUnsafe()) / 1_000_000
  let asked: Thread | undefined
  yield* Effect.addFinalizer(() => writing?.close ?? Effect.void)
  // The reading thread is closed before the writing one. The connection that is closed last empties the log, which a
  // connection that only reads can't do.
  yield* Effect.addFinalizer(() => asked === undefined ? Effect.void : Effect.timeoutOption(asked.close, "1 second"))

  const openNow = Effect.gen(function*() {
    if (failed !== undefined && now() - failed.at < openedAgainAfter) {
      return yield* failed.error
    }
    asked?.end()
    asked = undefined
    if (writing !== undefined) yield* writing.close
    const thread = new Thread({ ...options, writes: true, patienceForAnswers: Number.POSITIVE_INFINITY })
    writing = thread
    const { isReadOnly = false, warnings = [] } = yield* Effect.tapError(
      thread.opened,
      (error) => Effect.sync(() => failed = { error, at: now() })
    )
    const openedAt = now()
    return opening = {
      warnings,
      isOver: () => thread.isDead || (isReadOnly && now() - openedAt >= openedAgainAfter),
      failure: () => thread.failure
    }
  })
  const gate = Semaphore.makeUnsafe(1)
  const open = Effect.suspend(() =>
    opening !== undefined && !opening.isOver() ? Effect.succeed(opening) : Effect.uninterruptible(openNow)
  )

  const written = Effect.suspend(() =>
    writing === undefined || writing.isDead
      ? Effect.fail(connectionError("its file is not open"))
      : Effect.succeed(writing)
  )
  const read = Effect.flatMap(written, () => {
    if (asked === undefined || asked.isDead) asked = new Thread({ ...options, writes: false, patienceForAnswers })
    return Effect.as(asked.opened, asked)
  })

  const writers = acquirersOf(written)
  const client = yield* clientOf(writers)
  const reading = yield* clientOf(acquirersOf(read))
  return Object.assign(client, {
    atomically: (statements: ReadonlyArray<BulkStatement>) =>
      Effect.map(
        Effect.flatMap(Effect.serviceOption(client.transactionService), (transaction) =>
          Option.isSome(transaction)
            ? (transaction.value[0] as ThreadConnection).thread.send(statements, false, true)
            : writers.borrower((connection) =>
              (connection as ThreadConnection).thread.send([...statements, ...beside()], true, true)
            )),
        (results) =>
          results.slice(0, statements.length).map((result): BulkResult => ({
            rows: toObjects(result),
            changes: result.changes
          }))
      ),
    reading,
    open: gate.withPermit(open)
  })
})

const acquirersOf = (thread: Effect.Effect<Thread, SqlError>) =>
  SqlClient.makeSqliteAcquirers({
    connection: Effect.map(thread, connectionOf),
    semaphore: Semaphore.makeUnsafe(1)
  })

const clientOf = (acquirers: ReturnType<typeof acquirersOf>) =>
  SqlClient.make({
    acquirer: acquirers.acquirer,
    borrower: acquirers.borrower,
    transactionAcquirer: acquirers.transactionAcquirer,
    onCommitFailure: acquirers.onCommitFailure,
    beginTransaction: "BEGIN IMMEDIATE",
    compiler: Statement.makeCompilerSqlite(),
    driver: "sqlite-node",
    spanAttributes: [["db.system.name", "sqlite"]]
  })

interface ThreadConnection extends Connection {
  readonly thread: Thread
}

const connectionOf = (thread: Thread): ThreadConnection => {
  const send = (text: string, params: ReadonlyArray<unknown>, isKept: boolean) =>
    Effect.map(thread.send([{ text, width: params.length, values: params }], false, isKept), ([result]) => result!)
  const rows = (text: string, params: ReadonlyArray<unknown>, isKept: boolean) =>
    Effect.map(send(text, params, isKept), toObjects)
  const values = (text: string, params: ReadonlyArray<unknown>, isKept: boolean) =>
    Effect.map(send(text, params, isKept), toArrays)
  return {
    thread,
    execute: (text, params, transform) => transformed(rows(text, params, true), transform),
    executeRaw: (text, params) => rows(text, params, true),
    executeStream: (text, params, transform) =>
      Stream.fromArrayEffect(transformed(rows(text, params, true), transform)),
    executeValues: (text, params) => values(text, params, true),
    executeValuesUnprepared: (text, params) => values(text, params, false),
    executeUnprepared: (text, params, transform) => transformed(rows(text, params, false), transform)
  }
}

const transformed = (
  effect: Effect.Effect<ReadonlyArray<Row>, SqlError>,
  transform: (<A extends object>(rows: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined
) => transform === undefined ? effect : Effect.map(effect, transform)

const toArrays = ({ columns, values }: WireResult): ReadonlyArray<ReadonlyArray<unknown>> => {
  const width = columns.length
  return width === 0
    ? []
    : Array.from({ length: values.length / width }, (_, row) => values.slice(row * width, (row + 1) * width))
}

const toObjects = (result: WireResult): ReadonlyArray<Row> => {
  const { columns, values } = result
  const rows: Array<Row> = []
  for (let at = 0; at < values.length; at += columns.length) {
    const row: Record<string, unknown> = {}
    for (let column = 0; column < columns.length; column += 1) row[columns[column]!] = values[at + column]
    rows.push(row)
  }
  return rows
}
