/** Where a SQLite file is, and what lies beside it. */
import * as Fs from "node:fs"

export interface SqliteOptions {
  readonly path: string
  /** What the file is marked with when it is new. */
  readonly applicationId: number
  /** Files up to this many bytes are checked from end to end when they are opened. */
  readonly checkedBytes: number
  /** Milliseconds to wait for another process to let go of the file. */
  readonly patience: number
}

export const isMissing = (path: string): boolean => (Fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0

export const sidecars = ["", "-wal", "-shm", "-journal"]

export const removeFiles = (path: string, endings: ReadonlyArray<string>): void => {
  for (const ending of endings) Fs.rmSync(`${path}${ending}`, { force: true })
}
