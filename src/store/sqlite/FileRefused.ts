/**
 * The reasons for which a SQLite file can't be used, and whether they may pass by themselves. When this runs from
 * source, types are only stripped.
 */

/** The file can't be used, although SQLite itself reported no error. */
export class FileRefused extends Error {
  /** Whether it may work the next time, without anybody's doing. */
  readonly isPassing: boolean

  constructor(reason: string, isPassing: boolean) {
    super(reason)
    this.isPassing = isPassing
  }
}

/** Whether it may work the next time, without anybody's doing. */
export const isPassing = (error: unknown): boolean =>
  error instanceof FileRefused
    ? error.isPassing
    : !lastingCodes.has(((error as { readonly errcode?: number }).errcode ?? 0) & 0xff)

/** Locked by another process, corrupt, not a database. */
const lastingCodes = new Set([5, 6, 11, 26])

/** Puts errors of the system into words. Errors of SQLite are left to the caller. */
export const refusalOf = (error: unknown): unknown => {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (syscall === undefined || code === undefined) return error
  return new FileRefused(systemReasons[code] ?? `it can't be opened (${code})`, !lastingReasons.has(code))
}

/** With these, somebody has named the wrong place. */
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
