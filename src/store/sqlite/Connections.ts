/**
 * Connections to the SQLite file: one that writes, or others that only read.
 *
 * **Gotchas**
 *
 * Types are stripped when it runs from source: nothing here may need a compiler.
 */
import * as Fs from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { FileRefused, isPassing, refusalOf } from "./FileRefused.ts"
import { isMissing, type SqliteOptions } from "./Paths.ts"

export interface OpenConnection {
  readonly db: DatabaseSync
  /** Why it can only be read for now; undefined: it can be written to. */
  readonly obstacle: unknown
}

/** To be read where it can't be written to: who the backends are is worth knowing then, more than ever. */
export const openAsCanBe = (options: SqliteOptions): OpenConnection => {
  try {
    // Else SQLite would open it all the same.
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
 * Without its log where there is none, or it holds nothing and can't be had: it is not made here, where it would be as
 * read-only as the file. Whoever writes has made it.
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

/** SQLite takes no locks on it, and makes no files beside it. https://www.sqlite.org/uri.html#uriimmutable */
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
    // A container may have no other directory that can be written to; large changes and sorts fail then.
    db.exec("PRAGMA temp_store = MEMORY")
    if (pragma("synchronous") !== 2) throw new FileRefused("it does not sync", false)
    // From now on its log is there.
    db.exec("BEGIN IMMEDIATE; COMMIT")
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

export const pragmaOf = (db: DatabaseSync) => (text: string) =>
  Object.values(db.prepare(`PRAGMA ${text}`).get() ?? {})[0]
