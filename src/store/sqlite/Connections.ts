/**
 * Opens connections to the SQLite file: one that writes, or others that only read.
 *
 * **Gotchas**
 *
 * When it runs from source, types are only stripped: nothing here may need a compiler.
 */
import * as Fs from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { FileRefused, isPassing, refusalOf } from "./FileRefused.ts"
import { isMissing, type SqliteOptions } from "./Paths.ts"

export interface OpenConnection {
  readonly db: DatabaseSync
  /** Why the file can only be read for now. Undefined: it can be written to. */
  readonly obstacle: unknown
}

/** Opens a file that can't be written to for reading. Just then it is worth knowing who the backends are. */
export const openAsCanBe = (options: SqliteOptions): OpenConnection => {
  try {
    // Otherwise SQLite would open the file all the same.
    Fs.closeSync(Fs.openSync(options.path, "r+"))
    return { db: openWritable(options), obstacle: undefined }
  } catch (error) {
    const obstacle = refusalOf(error)
    if (!isPassing(obstacle)) throw obstacle
    try {
      return { db: openToRead(options.path, options.patience), obstacle }
    } catch {
      throw obstacle
    }
  }
}

/**
 * Opens a file without its log if there is none, or if the log holds nothing and can't be opened. A log is not made
 * here, because it would be as read-only as the file. The connection that writes has made it.
 */
export const openToRead = (path: string, patience: number): DatabaseSync => {
  if (!Fs.existsSync(`${path}-wal`)) return connectToRead(unchanging(path), patience)
  try {
    return connectToRead(path, patience)
  } catch (error) {
    if (!isMissing(`${path}-wal`)) throw error
    return connectToRead(unchanging(path), patience)
  }
}

const connectToRead = (path: string | URL, patience: number): DatabaseSync => {
  const db = new DatabaseSync(path, { readOnly: true, timeout: patience })
  try {
    db.exec("PRAGMA temp_store = MEMORY")
    pragmaOf(db)("page_count")
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** SQLite takes no locks on such a file, and makes no files beside it. https://www.sqlite.org/uri.html#uriimmutable */
export const unchanging = (path: string): URL => {
  const url = pathToFileURL(path)
  url.searchParams.set("immutable", "1")
  return url
}

const openWritable = ({ patience, path }: SqliteOptions): DatabaseSync => {
  const db = new DatabaseSync(path, { timeout: patience })
  try {
    const pragma = pragmaOf(db)
    if (pragma("journal_mode = WAL") !== "wal") throw new FileRefused("it can't keep a write-ahead log", false)
    db.exec("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864")
    // A container may have no other directory that can be written to. Without memory, large changes and sorts would
    // fail then.
    db.exec("PRAGMA temp_store = MEMORY")
    if (pragma("synchronous") !== 2) throw new FileRefused("it does not sync", false)
    // This creates the log.
    db.exec("BEGIN IMMEDIATE; COMMIT")
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** Runs a pragma, and returns the first value of its answer. */
export const pragmaOf = (db: DatabaseSync) => (text: string) =>
  Object.values(db.prepare(`PRAGMA ${text}`).get() ?? {})[0]
