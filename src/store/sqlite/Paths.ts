/** The path of a SQLite file, and the files beside it. */
import * as Fs from "node:fs"

/** A SQLite file, and how it is opened. */
export interface SqliteOptions {
  readonly path: string
  /** The mark that a new file gets. */
  readonly applicationId: number
  /** Files of at most this many bytes are checked from end to end when they are opened. */
  readonly checkedBytes: number
  /** Milliseconds to wait until another process lets go of the file. */
  readonly patience: number
}

/** Whether there is no file, or an empty one. */
export const isMissing = (path: string): boolean => (Fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0

/** The endings of a SQLite file and of the files beside it. */
export const sidecars = ["", "-wal", "-shm", "-journal"]

/** Removes the files with these endings, if they are there. */
export const removeFiles = (path: string, endings: ReadonlyArray<string>): void => {
  for (const ending of endings) Fs.rmSync(`${path}${ending}`, { force: true })
}
