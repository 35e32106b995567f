/**
 * The SQLite file of a store on its disk: it is made, inspected, locked and opened for writing. This runs in the thread
 * that writes.
 *
 * **Details**
 *
 * - `…-lock` is an empty database that is locked as long as the file is open. It keeps out other processes of ours. The
 *   file itself is not locked, so that a second connection can read beside the one that writes.
 *
 * **Gotchas**
 *
 * - A file may be closed here only while no other connection of this process has it open. POSIX drops all locks of a
 *   process on a file when the process closes any descriptor of it.
 *   https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
 * - When it runs from source, types are only stripped: nothing here may need a compiler.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { openAsCanBe, type OpenConnection, openToRead } from "./Connections.ts"
import { FileRefused, refusalOf } from "./FileRefused.ts"
import { inspect, lookAt } from "./Inspection.ts"
import { finishMaking, make } from "./NewFile.ts"
import { isMissing, removeFiles, sidecars, type SqliteOptions } from "./Paths.ts"

export interface OpenFile extends OpenConnection {
  readonly warnings: ReadonlyArray<string>
  /** Throws if writes do not go to the path any more. */
  readonly checkPlace: () => void
  readonly close: () => void
}

/** Opens the file for writing. If that is impossible for a reason that may pass, it is opened for reading. */
export const openFile = (options: SqliteOptions): OpenFile => {
  try {
    return lockAndOpen({ ...options, path: realPath(options.path) })
  } catch (error) {
    throw refusalOf(error)
  }
}

/** Opens a connection beside the one that writes. */
export const openReader = ({ patience, path }: SqliteOptions): DatabaseSync => openToRead(realPath(path), patience)

const lockAndOpen = (options: SqliteOptions): OpenFile => {
  const { path } = options
  // Before the lock, which is a file too: nothing is made beside a file that is not ours.
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

/** The real path of a file that may be a link. A file that is not there is where its path says. */
const realPath = (path: string): string => {
  if (Fs.lstatSync(path, { throwIfNoEntry: false }) === undefined) return path
  return Fs.realpathSync(path)
}

/** Takes the lock. It is held until it is closed or the process ends in any way. */
const takeLock = ({ patience, path }: SqliteOptions): DatabaseSync => {
  const name = `${path}-lock`
  // Not opened if it exists, because closing it would undo a lock of this process.
  if (!Fs.existsSync(name)) Fs.closeSync(Fs.openSync(name, "a", 0o600))
  const lock = new DatabaseSync(name, { timeout: patience })
  try {
    // With the journal in memory, nothing is ever written to the lock.
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    return lock
  } catch (error) {
    lock.close()
    throw error
  }
}

/**
 * Closes a file to other users. If that fails, the result is a warning, because a restored file may belong to another
 * user. `needed` is what the owner may do at least: SQLite makes the files beside a read-only file read-only too.
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

/**
 * Checks that the path still leads to the file that it leads to now. The log of a file that is gone is removed, because
 * SQLite would take it for the log of a file in its place.
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
