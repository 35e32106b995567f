/**
 * The SQLite file of a store on its disk: made, looked at, locked and opened for writing. Runs in the thread that writes.
 *
 * **Details**
 *
 * - `…-lock`, an empty database that is locked for as long as the file is open, keeps out other processes of ours. The file
 *   itself is not locked, so that a second connection can read beside the one that writes.
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
import { openAsCanBe, type OpenConnection, openToRead } from "./Connections.ts"
import { FileRefused, refusalOf } from "./FileRefused.ts"
import { inspect, lookAt } from "./Inspection.ts"
import { finishMaking, make } from "./NewFile.ts"
import { isMissing, removeFiles, sidecars, type SqliteOptions } from "./Paths.ts"

export interface OpenFile extends OpenConnection {
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
