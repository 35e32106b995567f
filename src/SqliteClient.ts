/**
 * A `SqlClient` for one SQLite file of our own, on Node's `node:sqlite`.
 *
 * **Details**
 *
 * - The file lives in a worker thread, and nobody else opens it: it is locked for as long as the client's scope is open.
 * - Its log is written ahead (WAL) and synced with each commit (`synchronous=FULL`).
 * - Numbers come back as numbers; what is over 2^53 fails. `undefined` can't be bound.
 * - When the thread ends or its disk fails, what is under way fails with `ConnectionError`, and the next use opens the file
 *   again.
 *
 * **Gotchas**
 *
 * What has been sent to the thread is carried out, even if nobody waits for it any more. A statement that follows comes after.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { classifySqliteError, ConnectionError, SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import { Worker } from "node:worker_threads"
import type { SqliteOptions, WireError, WireReply, WireRequest, WireResult, WireStatement } from "./SqliteWorker.ts"

/** A statement with the values of each of its runs, one after the other. */
interface BulkStatement {
  readonly text: string
  /** Values of one run. */
  readonly width: number
  readonly values: ReadonlyArray<unknown>
}

export interface SqliteClient extends SqlClient.SqlClient {
  /** All in one message to the thread: as part of the transaction that is open, else in one of their own. The rows of each. */
  readonly atomically: (
    statements: ReadonlyArray<BulkStatement>
  ) => Effect.Effect<ReadonlyArray<ReadonlyArray<any>>, SqlError>
}

type Row = { readonly [column: string]: unknown }

/** Opens the file before it succeeds. */
export const make = (options: SqliteOptions): Effect.Effect<SqliteClient, SqlError, Scope.Scope> =>
  Effect.provide(open(options), Reactivity.layer)

const open = Effect.fnUntraced(function*(options: SqliteOptions) {
  let current: Thread | undefined
  yield* Effect.addFinalizer(() => current === undefined ? Effect.void : current.close)

  const live = Effect.suspend(() => {
    if (current !== undefined && !current.isDead) return Effect.succeed(current)
    return Effect.flatMap(current === undefined ? Effect.void : current.exited, () => {
      const opened = new Thread(options)
      current = opened
      return Effect.as(opened.opened, opened)
    })
  })
  const acquirers = SqlClient.makeSqliteAcquirers({
    connection: Effect.map(live, connectionOf),
    semaphore: Semaphore.makeUnsafe(1)
  })
  yield* Effect.scoped(acquirers.acquirer)

  const client = yield* SqlClient.make({
    acquirer: acquirers.acquirer,
    borrower: acquirers.borrower,
    transactionAcquirer: acquirers.transactionAcquirer,
    onCommitFailure: acquirers.onCommitFailure,
    beginTransaction: "BEGIN IMMEDIATE",
    compiler: Statement.makeCompilerSqlite(),
    driver: "sqlite-node",
    spanAttributes: [["db.system.name", "sqlite"]]
  })
  return Object.assign(client, {
    atomically: (statements: ReadonlyArray<BulkStatement>) =>
      Effect.map(
        Effect.flatMap(Effect.serviceOption(client.transactionService), (transaction) =>
          Option.isSome(transaction)
            ? (transaction.value[0] as ThreadConnection).thread.send(statements, false, true)
            : acquirers.borrower(() => Effect.flatMap(live, (thread) => thread.send(statements, true, true)))),
        (results) => results.map(toObjects)
      )
  })
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

/** More texts than this are not kept prepared. */
const mostTexts = 256

/** After these the file is opened anew: input or output failed, corrupt, not a database. */
const fatalCodes = new Set([10, 11, 26])

/** One life of the worker, and what waits for its replies. */
class Thread {
  readonly opened: Effect.Effect<void, SqlError>
  isDead = false
  readonly #worker: Worker
  readonly #waiting: Array<(reply: WireReply) => void> = []
  readonly #texts = new Map<string, number>()
  #lastId = 0
  /** It has let go of the file. */
  readonly exited: Effect.Effect<void>

  constructor(options: SqliteOptions) {
    const file = import.meta.url.endsWith(".ts") ? "./SqliteWorker.ts" : "./SqliteWorker.js"
    this.#worker = new Worker(new URL(file, import.meta.url), { workerData: options })
    this.#worker.on("message", (reply: WireReply) => {
      if ("error" in reply && fatalCodes.has((reply.error.errcode ?? 0) & 0xff)) this.#end()
      this.#waiting.shift()?.(reply)
    })
    this.#worker.on("error", (error) => this.#fail(String(error)))
    const exited = new Promise<void>((resolve) =>
      this.#worker.once("exit", () => {
        this.#fail("the thread has ended")
        resolve()
      })
    )
    this.exited = Effect.promise(() => exited)
    this.opened = this.#reply((resolve) => {
      this.#waiting.push(resolve)
      return Option.none()
    }).pipe(Effect.tapError(() => Effect.sync(() => this.#end())), Effect.asVoid)
  }

  /** Results of each statement. Those that `isKept` stay prepared. */
  send(
    statements: ReadonlyArray<BulkStatement>,
    isAtomic: boolean,
    isKept: boolean
  ): Effect.Effect<ReadonlyArray<WireResult>, SqlError> {
    return this.#reply((resolve) => {
      // A transaction ends with the thread that it was in.
      if (this.isDead && statements[0]!.text === "ROLLBACK") {
        resolve({ results: [{ columns: [], values: [] }] })
        return Option.none()
      }
      if (this.isDead) return Option.some("the thread has ended")
      const request = encode(statements.map((statement) => this.#wire(statement, isKept)), isAtomic)
      try {
        this.#worker.postMessage(request, request.bytes === undefined ? [] : [request.bytes.buffer])
      } catch (error) {
        // The texts have not arrived either.
        this.#texts.clear()
        return Option.some(String(error))
      }
      this.#waiting.push(resolve)
      return Option.none()
    })
  }

  readonly close = Effect.suspend(() => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has none
    if (!this.isDead) this.#worker.postMessage("close")
    return this.exited
  })

  #wire({ text, values, width }: BulkStatement, isKept: boolean): WireStatement {
    const known = this.#texts.get(text)
    if (known !== undefined) return { id: known, text: undefined, width, values: values as Array<unknown> }
    const id = isKept && this.#texts.size < mostTexts ? this.#lastId += 1 : undefined
    if (id !== undefined) this.#texts.set(text, id)
    return { id, text, width, values: values as Array<unknown> }
  }

  #reply(
    ask: (resolve: (reply: WireReply) => void) => Option.Option<string>
  ): Effect.Effect<ReadonlyArray<WireResult>, SqlError> {
    return Effect.callback((resume) => {
      const refused = ask((reply) =>
        resume("error" in reply ? Effect.fail(errorOf(reply.error)) : Effect.succeed(reply.results))
      )
      if (Option.isSome(refused)) resume(Effect.fail(connectionError(refused.value)))
    })
  }

  #end(): void {
    this.isDead = true
    void this.#worker.terminate()
  }

  #fail(reason: string): void {
    this.isDead = true
    for (const resolve of this.#waiting.splice(0)) {
      resolve({ error: { message: reason, errcode: lostThread, refusal: undefined } })
    }
  }
}

/** No code of SQLite's. */
const lostThread = -1

const encode = (statements: ReadonlyArray<WireStatement>, isAtomic: boolean): WireRequest => {
  const blobs: Array<number> = []
  const found: Array<Uint8Array> = []
  let length = 0
  const wires = statements.map((wire, statement) => {
    let values: Array<unknown> | undefined
    for (let at = 0; at < wire.values.length; at += 1) {
      const value = wire.values[at]
      if (!(value instanceof Uint8Array)) continue
      values ??= wire.values.slice()
      values[at] = null
      blobs.push(statement, at, value.byteLength)
      found.push(value)
      length += value.byteLength
    }
    return values === undefined ? wire : { ...wire, values }
  })
  if (found.length === 0) return { isAtomic, statements, blobs, bytes: undefined }
  const bytes = new Uint8Array(length)
  let at = 0
  for (const value of found) {
    bytes.set(value, at)
    at += value.byteLength
  }
  return { isAtomic, statements: wires, blobs, bytes }
}

const errorOf = ({ errcode, message, refusal }: WireError): SqlError => {
  if (errcode === lostThread) return connectionError(message)
  const cause = Object.assign(new Error(message), { errno: errcode, refusal })
  return new SqlError({ reason: classifySqliteError(cause, { message, operation: "execute" }) })
}

const connectionError = (reason: string): SqlError =>
  new SqlError({ reason: new ConnectionError({ cause: new Error(reason), message: reason, operation: "execute" }) })
