/**
 * The thread that a SQLite file lives in: `node:sqlite` is synchronous, and a sync of the disk must not stall the event loop.
 *
 * **Details**
 *
 * Requests are served one by one in the order they come, each with one reply. Values travel flat and texts once, because
 * what a message costs is mostly its structure. All bytes of a request are one buffer, handed over and not copied.
 *
 * **Gotchas**
 *
 * Types are stripped when it runs from source: nothing here may need a compiler.
 */
import { existsSync, rmSync, statSync } from "node:fs"
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite"
import { parentPort, workerData } from "node:worker_threads"
import { newestSchema, tooNew } from "./StoreSchema.ts"

export interface SqliteOptions {
  readonly path: string
  /** What the file is marked with when it is new. */
  readonly applicationId: number
  /** Files up to this many bytes are checked from end to end when they are opened. */
  readonly checkedBytes: number
  /** Milliseconds to wait for another process to let go of the file. */
  readonly patience: number
}

/** One statement, run once for each `width` of values. */
export interface WireStatement {
  /** Number of a text that is kept prepared; undefined: it is not kept. */
  readonly id: number | undefined
  /** With its first use, and where it is not kept. */
  readonly text: string | undefined
  readonly width: number
  readonly values: Array<unknown>
}

export interface WireRequest {
  /** All of it or nothing, in a transaction of its own. */
  readonly isAtomic: boolean
  readonly statements: ReadonlyArray<WireStatement>
  /** Bytes for the values that are bytes: triples of statement, position in its values, and length. */
  readonly blobs: ReadonlyArray<number>
  readonly bytes: Uint8Array<ArrayBuffer> | undefined
}

export interface WireResult {
  readonly columns: ReadonlyArray<string>
  /** Row after row. */
  readonly values: ReadonlyArray<unknown>
}

export interface WireError {
  readonly message: string
  /** SQLite's extended result code. */
  readonly errcode: number | undefined
  /** Why the file was not opened, where SQLite had nothing against it. */
  readonly refusal: string | undefined
}

/** The first one says whether the file was opened. */
export type WireReply = { readonly results: ReadonlyArray<WireResult> } | { readonly error: WireError }

class CheckFailed extends Error {}

const pragmaOf = (db: DatabaseSync) => (text: string) => Object.values(db.prepare(`PRAGMA ${text}`).get() ?? {})[0]

/** Looks at a file and its log, and leaves both as they are: a connection that may write empties the log when it closes. */
const inspect = ({ checkedBytes, path, patience }: SqliteOptions): void => {
  const made = ["-wal", "-shm"].map((ending) => `${path}${ending}`).filter((name) => !existsSync(name))
  const db = new DatabaseSync(path, { readOnly: true, timeout: patience })
  try {
    const pragma = pragmaOf(db)
    const size = Number(pragma("page_count")) * Number(pragma("page_size"))
    if (size <= checkedBytes && pragma("quick_check(1)") !== "ok") throw new CheckFailed("it is corrupt")
    const schema = Number(pragma("user_version"))
    if (schema > newestSchema) throw new CheckFailed(tooNew(schema))
  } finally {
    db.close()
    for (const name of made) rmSync(name, { force: true })
  }
}

const open = (options: SqliteOptions): DatabaseSync => {
  if ((statSync(options.path, { throwIfNoEntry: false })?.size ?? 0) > 0) inspect(options)
  const db = new DatabaseSync(options.path, { timeout: options.patience })
  const pragma = pragmaOf(db)
  // Before anything reads the file, so that no index of the log is shared with other processes: there are none.
  pragma("locking_mode = EXCLUSIVE")
  const size = Number(pragma("page_count"))
  // While there is no log yet, so that the file itself says whose it is.
  if (size === 0) db.exec(`PRAGMA application_id = ${options.applicationId}`)
  if (pragma("journal_mode = WAL") !== "wal") throw new CheckFailed("it can't keep a write-ahead log")
  db.exec("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864")
  // A container may have no other directory that can be written to; large changes and sorts fail then.
  db.exec("PRAGMA temp_store = MEMORY")
  if (pragma("synchronous") !== 2) throw new CheckFailed("it does not sync")
  // The lock is held from the first write on.
  db.exec("BEGIN IMMEDIATE; COMMIT")
  return db
}

interface Prepared {
  readonly statement: StatementSync
  readonly columns: ReadonlyArray<string>
}

const serve = (db: DatabaseSync) => {
  const texts = new Map<number, string>()
  const prepared = new Map<number, Prepared>()

  const prepare = (text: string): Prepared => {
    const statement = db.prepare(text)
    const columns = statement.columns().map((column) => column.name)
    statement.setReturnArrays(true)
    return { statement, columns }
  }

  const lookUp = ({ id, text }: WireStatement): Prepared => {
    if (id === undefined) return prepare(text!)
    const known = prepared.get(id)
    if (known !== undefined) return known
    const made = prepare(texts.get(id)!)
    prepared.set(id, made)
    return made
  }

  const execute = (wire: WireStatement): WireResult => {
    const { columns, statement } = lookUp(wire)
    const found: Array<unknown> = []
    const run = (values: Array<SQLInputValue>) => {
      if (columns.length === 0) statement.run(...values)
      else for (const row of statement.all(...values)) found.push(...(row as unknown as Array<unknown>))
    }
    if (wire.width === 0) run([])
    else {
      for (let at = 0; at < wire.values.length; at += wire.width) {
        run(wire.values.slice(at, at + wire.width) as Array<SQLInputValue>)
      }
    }
    return { columns, values: found }
  }

  return (request: WireRequest): ReadonlyArray<WireResult> => {
    // All of them first: they are not sent again, even if one before them fails.
    for (const { id, text } of request.statements) if (id !== undefined && text !== undefined) texts.set(id, text)
    for (let at = 0, from = 0; at < request.blobs.length; at += 3) {
      const length = request.blobs[at + 2]!
      request.statements[request.blobs[at]!]!.values[request.blobs[at + 1]!] = request.bytes!.subarray(
        from,
        from + length
      )
      from += length
    }
    // A transaction that failed for want of space is rolled back already.
    if (request.statements[0]?.text === "ROLLBACK" && !db.isTransaction) return [{ columns: [], values: [] }]
    if (!request.isAtomic) return request.statements.map(execute)
    db.exec("BEGIN IMMEDIATE")
    try {
      const results = request.statements.map(execute)
      db.exec("COMMIT")
      return results
    } catch (error) {
      if (db.isTransaction) db.exec("ROLLBACK")
      throw error
    }
  }
}

/** As SQLite itself names a value of a wrong type. */
const mismatch = 20

const isUnbindable = (error: unknown): boolean =>
  /^ERR_(?:INVALID_ARG|OUT_OF_RANGE)/.test(String((error as { readonly code?: unknown }).code))

const wireError = (error: unknown): WireError => ({
  message: error instanceof Error ? error.message : String(error),
  errcode: (error as { readonly errcode?: number }).errcode ?? (isUnbindable(error) ? mismatch : undefined),
  refusal: error instanceof CheckFailed ? error.message : undefined
})

const transferable = (results: ReadonlyArray<WireResult>): Array<ArrayBuffer> =>
  results.flatMap(({ values }) =>
    values.flatMap((value) => value instanceof Uint8Array && value.byteLength > 0 ? [value.buffer as ArrayBuffer] : [])
  )

const main = (port: NonNullable<typeof parentPort>) => {
  const reply = (message: WireReply, transfer: Array<ArrayBuffer> = []) => port.postMessage(message, transfer)
  let serveOne: ReturnType<typeof serve>
  let db: DatabaseSync
  try {
    db = open(workerData as SqliteOptions)
    serveOne = serve(db)
    reply({ results: [] })
  } catch (error) {
    reply({ error: wireError(error) })
    return
  }
  port.on("message", (request: WireRequest | "close") => {
    if (request === "close") {
      db.close()
      port.close()
      return
    }
    try {
      const results = serveOne(request)
      reply({ results }, transferable(results))
    } catch (error) {
      reply({ error: wireError(error) })
    }
  })
}

if (parentPort !== null) main(parentPort)
