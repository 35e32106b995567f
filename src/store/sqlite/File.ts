/**
 * The SQLite file of a store on its disk: made, looked at, locked and opened for writing. Runs in the thread that writes.
 *
 * **Details**
 *
 * - A new file is made under another name and renamed when it is whole: whenever the process dies, the next start finds none
 *   or one that it can use.
 * - `…-lock`, an empty database that is locked for as long as the file is open, keeps out other processes of ours. The file
 *   itself is not locked, so that a second connection can read beside the one that writes.
 * - A file is looked at before it is touched, and one that is refused stays as it is, to the byte: whose it is, and how new
 *   its schema, is read from its header, and what its log says of that by a connection that can't write.
 *   https://www.sqlite.org/fileformat2.html#the_database_header
 *
 * **Gotchas**
 *
 * - A file is closed here only while no connection of this process has it open: POSIX forgets all locks of a process on a
 *   file with the first descriptor that is closed. https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
 * - Types are stripped when it runs from source: nothing here may need a compiler.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { newestSchema, tooNew } from "../Schema.ts"

export interface SqliteOptions {
  readonly path: string
  /** What the file is marked with when it is new. */
  readonly applicationId: number
  /** Files up to this many bytes are checked from end to end when they are opened. */
  readonly checkedBytes: number
  /** Milliseconds to wait for another process to let go of the file. */
  readonly patience: number
}

/** Why the file can't be used, where SQLite had nothing against it. */
export class FileRefused extends Error {
  /** It may be different the next time, without anybody's doing. */
  readonly isPassing: boolean

  constructor(reason: string, isPassing: boolean) {
    super(reason)
    this.isPassing = isPassing
  }
}

export interface OpenFile {
  readonly db: DatabaseSync
  /** Why it can only be read for now; undefined: it can be written to. */
  readonly obstacle: unknown
  readonly warnings: ReadonlyArray<string>
  /** Throws when what is written does not go to the path any more. */
  readonly checkPlace: () => void
  readonly close: () => void
}

/** Where it can't be written to for a reason that may pass, to be read. */
export const openFile = (options: SqliteOptions): OpenFile => {
  try {
    return lockAndOpen({ ...options, path: realPath(options.path) })
  } catch (error) {
    throw refusalOf(error)
  }
}

/** A connection beside the one that writes. */
export const openReader = ({ patience, path }: SqliteOptions): DatabaseSync => openToRead(realPath(path), patience)

/** Whether it may be different the next time, without anybody's doing. */
export const isPassing = (error: unknown): boolean =>
  error instanceof FileRefused
    ? error.isPassing
    : !lastingCodes.has(((error as { readonly errcode?: number }).errcode ?? 0) & 0xff)

/** Locked by another process, corrupt, not a database. */
const lastingCodes = new Set([5, 6, 11, 26])

const lockAndOpen = (options: SqliteOptions): OpenFile => {
  const { path } = options
  // Before the lock, which is a file too: beside what is not ours nothing is made.
  lookAt(options)
  const lock = takeLock(options)
  try {
    removeFiles(`${path}-new`, sidecars)
    if (Fs.existsSync(`${path}-journal`)) finishMaking(options)
    const warnings = lookAt(options)
      ? ["", "-wal", "-shm"].flatMap((ending) => closeToOthers(`${path}${ending}`, ending === "" ? 0 : 0o600))
      : []
    if (isMissing(path)) make(options)
    else inspect(options)
    const { db, obstacle } = openAsCanBe(options)
    return {
      db,
      obstacle,
      warnings,
      checkPlace: placeOf(path),
      close: () => {
        db.close()
        lock.close()
      }
    }
  } catch (error) {
    lock.close()
    throw error
  }
}

/** Of a file that may be a link; one that is not there is where it says. */
const realPath = (path: string): string => {
  if (Fs.lstatSync(path, { throwIfNoEntry: false }) === undefined) return path
  return Fs.realpathSync(path)
}

const isMissing = (path: string): boolean => (Fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0

/** Refuses what is not ours; false: there is nothing. */
const lookAt = ({ applicationId, path }: SqliteOptions): boolean => {
  let descriptor: number
  try {
    // A pipe would be waited for.
    descriptor = Fs.openSync(path, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" && Fs.statSync(Path.dirname(path)).isDirectory()) {
      return false
    }
    throw error
  }
  const header = Buffer.alloc(100)
  try {
    const status = Fs.fstatSync(descriptor)
    if (!status.isFile()) throw new FileRefused("it is not a file", false)
    if (status.size > 0) checkHeader(header.subarray(0, Fs.readSync(descriptor, header, 0, 100, 0)), applicationId)
  } finally {
    Fs.closeSync(descriptor)
  }
  return true
}

const checkHeader = (header: Buffer, applicationId: number): void => {
  const isDatabase = header.length === 100 && header.toString("latin1", 0, 16) === "SQLite format 3\0"
  const reason = !isDatabase
    ? "it is not a SQLite database"
    : header.readUInt32BE(68) !== applicationId
    ? "it is a database of something else"
    : header.readUInt32BE(60) > newestSchema
    ? tooNew(header.readUInt32BE(60))
    : undefined
  if (reason !== undefined) throw new FileRefused(reason, false)
}

/** Held until it is closed, or the process ends in whatever way. */
const takeLock = ({ patience, path }: SqliteOptions): DatabaseSync => {
  const name = `${path}-lock`
  // Not opened where it exists: closing it would undo a lock of this process.
  if (!Fs.existsSync(name)) Fs.closeSync(Fs.openSync(name, "a", 0o600))
  const lock = new DatabaseSync(name, { timeout: patience })
  try {
    // With a journal in memory nothing is ever written to it.
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    return lock
  } catch (error) {
    lock.close()
    throw error
  }
}

const sidecars = ["", "-wal", "-shm", "-journal"]

const removeFiles = (path: string, endings: ReadonlyArray<string>): void => {
  for (const ending of endings) Fs.rmSync(`${path}${ending}`, { force: true })
}

/**
 * A file of ours has a log and no journal. One with a journal was being made, in place, as earlier releases did it: SQLite
 * takes back the step that was not finished, which may leave nothing.
 */
const finishMaking = ({ patience, path }: SqliteOptions): void => {
  if (isMissing(path)) return
  const db = new DatabaseSync(path, { timeout: patience })
  try {
    db.prepare("PRAGMA page_count").get()
  } finally {
    db.close()
  }
}

const make = ({ applicationId, path }: SqliteOptions): void => {
  const made = `${path}-new`
  try {
    // Nobody else may read what is in the deliveries.
    Fs.closeSync(Fs.openSync(made, "wx", 0o600))
    const db = new DatabaseSync(made)
    try {
      db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA journal_mode = WAL`)
    } finally {
      db.close()
    }
    sync(made)
    // What lies beside nothing belonged to another file, and would be taken for this one's.
    removeFiles(path, sidecars.slice(1))
    Fs.renameSync(made, path)
    sync(Path.dirname(path))
  } catch (error) {
    removeFiles(made, sidecars)
    throw error
  }
}

const sync = (path: string): void => {
  const descriptor = Fs.openSync(path, "r")
  try {
    Fs.fsyncSync(descriptor)
  } finally {
    Fs.closeSync(descriptor)
  }
}

/**
 * A warning where others may read it and that can't be changed: a restored file may be another user's. `needed`: what the
 * owner may do at least. SQLite makes what lies beside a file that can't be written to as read-only as that.
 */
const closeToOthers = (file: string, needed: number): ReadonlyArray<string> => {
  const status = Fs.statSync(file, { throwIfNoEntry: false })
  if (status === undefined || ((status.mode & 0o077) === 0 && (status.mode & needed) === needed)) return []
  try {
    Fs.chmodSync(file, 0o600)
    return []
  } catch {
    if ((status.mode & 0o077) === 0) return []
    return [`others may read or write the store's ${Path.basename(file)}, and its mode can't be changed: chmod 600`]
  }
}

/** Looks at a file and its log, and leaves both as they are: a connection that may write empties the log when it closes. */
const inspect = ({ checkedBytes, path, patience }: SqliteOptions): void => {
  const hasLog = !isMissing(`${path}-wal`)
  const made = ["-wal", "-shm"].map((ending) => `${path}${ending}`).filter((name) => !Fs.existsSync(name))
  const db = new DatabaseSync(hasLog ? path : unchanging(path), { readOnly: true, timeout: patience })
  try {
    const pragma = pragmaOf(db)
    const size = Number(pragma("page_count")) * Number(pragma("page_size"))
    const isCutOff = !hasLog && Fs.statSync(path).size < size
    if (isCutOff || (size <= checkedBytes && pragma("quick_check(1)") !== "ok")) {
      throw new FileRefused("it is corrupt", false)
    }
    const schema = Number(pragma("user_version"))
    if (schema > newestSchema) throw new FileRefused(tooNew(schema), false)
  } finally {
    db.close()
    for (const name of made) Fs.rmSync(name, { force: true })
  }
}

/** To be read where it can't be written to: who the backends are is worth knowing then, more than ever. */
const openAsCanBe = (options: SqliteOptions): Pick<OpenFile, "db" | "obstacle"> => {
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
const openToRead = (path: string, patience: number): DatabaseSync => {
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
const unchanging = (path: string): URL => {
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

const pragmaOf = (db: DatabaseSync) => (text: string) => Object.values(db.prepare(`PRAGMA ${text}`).get() ?? {})[0]

/**
 * Checks that the path still leads to the file that it leads to now. The log of one that is gone is removed: SQLite would take
 * it for that of a file in its place.
 */
const placeOf = (path: string): () => void => {
  const identityOf = (ending: string) => {
    const status = Fs.statSync(`${path}${ending}`, { throwIfNoEntry: false })
    return status === undefined ? undefined : `${status.dev}:${status.ino}`
  }
  const [file, log, shared] = ["", "-wal", "-shm"].map(identityOf)
  return () => {
    const isThere = identityOf("") === file
    const hasLog = identityOf("-wal") === log
    if (isThere && hasLog) return
    if (!isThere) {
      removeFiles(path, [...(hasLog ? ["-wal"] : []), ...(identityOf("-shm") === shared ? ["-shm"] : [])])
    }
    throw new FileRefused("its file was removed or replaced", true)
  }
}

/** The system's errors in words. SQLite's are left to who asked. */
const refusalOf = (error: unknown): unknown => {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (syscall === undefined || code === undefined) return error
  return new FileRefused(systemReasons[code] ?? `it can't be opened (${code})`, !lastingReasons.has(code))
}

/** Somebody has named the wrong place. */
const lastingReasons = new Set(["ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENXIO"])

const systemReasons: Readonly<Record<string, string>> = {
  ENOENT: "its directory does not exist",
  ENOTDIR: "its directory is not a directory",
  EACCES: "its directory or file is not accessible to this user",
  EPERM: "its directory or file is not accessible to this user",
  EROFS: "its directory is read-only",
  EIO: "the disk failed",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk is full"
}
