/**
 * Inspects a SQLite file before it is touched. A file that is refused stays as it is, to the byte. Its owner and its
 * schema are read from its header, and what the log says of both is read by a connection that can't write.
 * https://www.sqlite.org/fileformat2.html#the_database_header
 *
 * **Gotchas**
 *
 * When it runs from source, types are only stripped: nothing here may need a compiler.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { newestSchema, tooNew } from "../Schema.ts"
import { pragmaOf, unchanging } from "./Connections.ts"
import { FileRefused } from "./FileRefused.ts"
import { isMissing, type SqliteOptions } from "./Paths.ts"

/** Refuses a file that is not ours. False: there is no file. */
export const lookAt = ({ applicationId, path }: SqliteOptions): boolean => {
  let descriptor: number
  try {
    // Non-blocking, because opening a pipe would wait for its other end.
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

/**
 * Inspects a file and its log, and leaves both as they are. A connection that may write would empty the log when it
 * closes.
 */
export const inspect = ({ checkedBytes, path, patience }: SqliteOptions): void => {
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
