/**
 * Makes a SQLite file under another name, and renames it when it is whole. So whenever the process dies, the next start
 * finds no file or one that it can use.
 *
 * **Gotchas**
 *
 * When it runs from source, types are only stripped: nothing here may need a compiler.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { isMissing, removeFiles, sidecars, type SqliteOptions } from "./Paths.ts"

/**
 * A file of ours has a log and no journal. If it has a journal, an earlier release was making it in place. SQLite takes
 * back the step that was not finished, which may leave an empty file.
 */
export const finishMaking = ({ patience, path }: SqliteOptions): void => {
  if (isMissing(path)) return
  const db = new DatabaseSync(path, { timeout: patience })
  try {
    db.prepare("PRAGMA page_count").get()
  } finally {
    db.close()
  }
}

/** Makes the file at `path`, which must be missing. */
export const make = ({ applicationId, path }: SqliteOptions): void => {
  const made = `${path}-new`
  try {
    // Nobody else may read the content of deliveries.
    Fs.closeSync(Fs.openSync(made, "wx", 0o600))
    const db = new DatabaseSync(made)
    try {
      db.exec(`PRAGMA application_id = ${applicationId}; PRAGMA journal_mode = WAL`)
    } finally {
      db.close()
    }
    sync(made)
    // Files beside a missing file belonged to an earlier one, and would be taken for the new file's.
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
