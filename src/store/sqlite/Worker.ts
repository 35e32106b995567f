/**
 * The thread that has a SQLite file open. It is a thread because `node:sqlite` is synchronous, and a sync of the disk
 * must not stall the event loop.
 *
 * **Details**
 *
 * Requests are served one by one in the order in which they come, each with one reply. Values are sent as a flat list
 * and each text only once, because the cost of a message is mostly its structure. All bytes of a request are one
 * buffer, which is handed over and not copied.
 *
 * **Gotchas**
 *
 * When it runs from source, types are only stripped: nothing here may need a compiler.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"
import { parentPort, workerData } from "node:worker_threads"
import { openFile, openReader } from "./File.ts"
import { FileRefused, isPassing } from "./FileRefused.ts"
import {
  monotonicMillis,
  type SqliteWorkerOptions,
  type WireError,
  type WireReply,
  type WireRequest,
  type WireResult,
  type WireStatement
} from "./Messages.ts"

/** One question took too long, or its answer is too large. */
class TooExpensive extends Error {}

/** A row that a statement had to write is not as the statement takes it. */
class Unwritten extends Error {
  /** SQLITE_ABORT, as if a callback of SQLite's had ended the statement. */
  readonly errcode = 4
}

/** The most values of an answer, because a thread that runs out of memory ends. */
const mostValues = 1_000_000

/** Milliseconds that a statement may take to look through what it asks about. */
const longestStatement = 4_000

interface Prepared {
  readonly statement: StatementSync
  readonly columns: ReadonlyArray<string>
}

const serve = (db: DatabaseSync, checkPlace: () => void) => {
  let now = 0n
  let limit = 0
  // The value stays the same throughout a statement.
  db.function("store_now", { deterministic: true }, () => now)
  // SQLite can't be interrupted from outside. So a statement that may look through much calls this for each row.
  db.function("store_in_time", { varargs: true }, () => {
    if (monotonicMillis() > limit) throw new TooExpensive("SQLite took too long")
    return 1n
  })

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
    let changes = 0
    const run = (values: Array<SQLInputValue>) => {
      if (columns.length === 0) {
        const written = Number(statement.run(...values).changes)
        if (wire.writesEach && written === 0) throw new Unwritten("no row was written")
        changes += written
        return
      }
      for (const row of statement.iterate(...values)) {
        found.push(...(row as unknown as Array<unknown>))
        if (found.length > mostValues) throw new TooExpensive("the answer is too large")
      }
    }
    if (wire.width === 0) run([])
    else {
      for (let at = 0; at < wire.values.length; at += wire.width) {
        run(wire.values.slice(at, at + wire.width) as Array<SQLInputValue>)
      }
    }
    return { columns, values: found, changes }
  }

  const carryOut = (request: WireRequest): ReadonlyArray<WireResult> => {
    now = BigInt(Math.round(request.now))
    limit = Math.min(request.deadline, monotonicMillis() + longestStatement)
    // All texts are taken first. They are not sent again, even if an earlier statement fails.
    for (const { id, text } of request.statements) if (id !== undefined && text !== undefined) texts.set(id, text)
    for (let at = 0, from = 0; at < request.blobs.length; at += 3) {
      const length = request.blobs[at + 2]!
      request.statements[request.blobs[at]!]!.values[request.blobs[at + 1]!] = request.bytes!.subarray(
        from,
        from + length
      )
      from += length
    }
    if (monotonicMillis() > request.deadline) throw new TooExpensive("SQLite took too long")
    // A transaction that failed for lack of space is rolled back already.
    if (request.statements[0]?.text === "ROLLBACK" && !db.isTransaction) {
      return [{ columns: [], values: [], changes: 0 }]
    }
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

  return (request: WireRequest): ReadonlyArray<WireResult> => {
    const results = free(request.bytes, () => carryOut(request))
    // A write to a file that is not at its path any more would be lost, so it is not confirmed.
    if (!db.isTransaction) checkPlace()
    return results
  }
}

/** Frees the bytes as soon as SQLite has them. Bodies of 25 MiB would pile up until this thread's next collection. */
const free = <A>(bytes: WireRequest["bytes"], use: () => A): A => {
  try {
    return use()
  } finally {
    bytes?.buffer.transfer(0)
  }
}

/** The code with which SQLite itself reports a value of a wrong type. */
const mismatch = 20

const isUnbindable = (error: unknown): boolean =>
  /^ERR_(?:INVALID_ARG|OUT_OF_RANGE)/.test(String((error as { readonly code?: unknown }).code))

/** After these codes the file is opened again: input or output failed, corrupt, not a database. */
const fatalCodes = new Set([10, 11, 26])

const readOnlyCode = 8

const wireError = (error: unknown): WireError => {
  const errcode = (error as { readonly errcode?: number }).errcode ?? (isUnbindable(error) ? mismatch : undefined)
  const code = (errcode ?? 0) & 0xff
  const isRefusal = error instanceof FileRefused
  const isExpensive = error instanceof TooExpensive
  return {
    message: error instanceof Error ? error.message : String(error),
    errcode,
    refusal: isRefusal || isExpensive ? error.message : undefined,
    isPassing: isPassing(error),
    isExpensive,
    isFatal: isRefusal || fatalCodes.has(code)
  }
}

const transferable = (results: ReadonlyArray<WireResult>): Array<ArrayBuffer> => {
  const buffers: Array<ArrayBuffer> = []
  for (const { values } of results) {
    for (const value of values) {
      if (value instanceof Uint8Array && value.byteLength > 0) buffers.push(value.buffer as ArrayBuffer)
    }
  }
  return buffers
}

const main = (port: NonNullable<typeof parentPort>) => {
  const reply = (message: WireReply, transfer: Array<ArrayBuffer> = []) => port.postMessage(message, transfer)
  const { writes, ...options } = workerData as SqliteWorkerOptions
  let serveOne: ReturnType<typeof serve>
  let obstacle: unknown
  let close: () => void
  try {
    if (writes) {
      const file = openFile(options)
      close = file.close
      obstacle = file.obstacle
      serveOne = serve(file.db, file.checkPlace)
      reply({ results: [], warnings: file.warnings, isReadOnly: obstacle !== undefined })
    } else {
      const db = openReader(options)
      close = () => db.close()
      serveOne = serve(db, () => {})
      reply({ results: [] })
    }
  } catch (error) {
    reply({ error: wireError(error) })
    return
  }
  port.on("message", (request: WireRequest | "close") => {
    if (request === "close") {
      close()
      port.close()
      return
    }
    try {
      const results = serveOne(request)
      reply({ results }, transferable(results))
    } catch (error) {
      const told = wireError(error)
      const isObstructed = obstacle !== undefined && ((told.errcode ?? 0) & 0xff) === readOnlyCode
      reply({ error: isObstructed ? { ...wireError(obstacle), isFatal: false } : told })
    }
  })
}

if (parentPort !== null) main(parentPort)
