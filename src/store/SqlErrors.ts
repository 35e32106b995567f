/**
 * Translates errors of the databases for the store: the reason, in words that name no address, no user and no secret,
 * and the fault.
 */
import {
  AuthenticationError,
  AuthorizationError,
  ConnectionError,
  DeadlockError,
  LockTimeoutError,
  SerializationError,
  type SqlError,
  SqlSyntaxError,
  StatementTimeoutError,
  UniqueViolation
} from "effect/sql/SqlError"
import type { StoreFault } from "./contract/Unavailable.ts"

/** One line for a log or an operator. */
export const reasonOf = (error: SqlError): string => {
  const { reason } = error
  const { code, errno, refusal } = causeOf(error)
  if (refusal !== undefined) return refusal
  if (isBadUrl(error)) return "its URL can't be used"
  if (code !== undefined) {
    if (sqlStates[code] !== undefined) return sqlStates[code]
    return isSqlState(code) ? `PostgreSQL refused with SQLSTATE ${code}` : `PostgreSQL can't be reached (${code})`
  }
  if (errno !== undefined) return sqliteCodes[errno & 0xff] ?? `SQLite failed with code ${errno}`
  if (reason instanceof AuthenticationError) return "PostgreSQL refused the login"
  return reason instanceof ConnectionError ? "the database can't be reached" : "the database's client failed"
}

/** The fault of an error. `late` is the fault if something took too long, or too much. */
export const faultOf = (error: SqlError, late: StoreFault): StoreFault => {
  const { code, errno } = causeOf(error)
  if (isUnencodable(error) || contentCodes.has((errno ?? 0) & 0xff)) return "content"
  if (code !== undefined && isSqlState(code) && contentClasses.has(code.slice(0, 2))) return "content"
  const { reason } = error
  const isLate = reason instanceof StatementTimeoutError || (code !== undefined && reason instanceof LockTimeoutError)
  return isLate || lateStates.has(code) || lateCodes.has((errno ?? 0) & 0xff) ? late : "away"
}

/** The error would come again each time: somebody has to change something first. */
export const isDefinite = (error: SqlError): boolean =>
  error.reason instanceof AuthenticationError || error.reason instanceof AuthorizationError ||
  error.reason instanceof SqlSyntaxError || isBadUrl(error) || definiteStates.has(causeOf(error).code)

/** Somebody else was in the way, or was there first. The operation may work when it is done again. */
export const isConflict = (error: SqlError): boolean =>
  error.reason instanceof DeadlockError || error.reason instanceof SerializationError ||
  error.reason instanceof UniqueViolation || causeOf(error).errno === primaryKeyTaken

/** A statement that has to write each of its rows did not find one of them as it takes it. Nothing was written. */
export const isUnwritten = (error: SqlError): boolean => {
  const { code, errno } = causeOf(error)
  return errno === aborted || code === invalidText
}

/** The drivers' own words: a SQLSTATE or a system error code, SQLite's code, or why our own thread refused a file. */
interface Cause {
  readonly code?: string | undefined
  readonly errno?: number | undefined
  readonly refusal?: string | undefined
}

const causeOf = ({ reason }: SqlError): Cause => (reason.cause ?? {}) as Cause

const isSqlState = (code: string): boolean => /^[0-9A-Z]{5}$/.test(code) && /[0-9]/.test(code)

/** The client has no error type of its own for a bad URL. */
const isBadUrl = ({ reason }: SqlError): boolean =>
  reason instanceof ConnectionError && /\bURL\b|No username/.test(reason.message)

/** The client has no error type for a value that it can't send either. */
const isUnencodable = ({ reason }: SqlError): boolean => /Failed to encode query/.test(reason.message ?? "")

/** Cardinality, data, integrity, program limits: these judge the content of the write. */
const contentClasses = new Set(["21", "22", "23", "54"])

/** Out of memory, and beyond a limit of the database. */
const lateStates = new Set<string | undefined>(["53200", "53400"])

/** Too big, constraint, mismatch. */
const contentCodes = new Set([18, 19, 20])

/** Out of memory, interrupted. */
const lateCodes = new Set([7, 9])

/** SQLITE_ABORT */
const aborted = 4

/** invalid_text_representation: PostgreSQL has no plainer way for a statement to fail by what it has found. */
const invalidText = "22P02"

/** SQLITE_CONSTRAINT_PRIMARYKEY */
const primaryKeyTaken = 1_555

/** No such database, no such schema. */
const definiteStates = new Set<string | undefined>(["3D000", "3F000"])

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const sqlStates: Readonly<Record<string, string>> = {
  "25006": "PostgreSQL is read-only",
  "28000": "PostgreSQL refused the login",
  "28P01": "PostgreSQL refused the user or the password",
  "3D000": "PostgreSQL has no such database",
  "42501": "PostgreSQL does not permit it to this user",
  "53100": "PostgreSQL's disk is full",
  "53200": "PostgreSQL is out of memory",
  "53300": "PostgreSQL has too many connections",
  "55P03": "PostgreSQL's lock was not to be had in time",
  "57014": "PostgreSQL took too long",
  "57P01": "PostgreSQL is shutting down",
  "57P03": "PostgreSQL is starting or stopping"
}

/** https://www.sqlite.org/rescode.html */
const sqliteCodes: Readonly<Record<number, string>> = {
  3: "the file is not accessible",
  5: "it is locked by another process",
  6: "it is locked by another process",
  8: "it is read-only",
  10: "the disk failed",
  11: "it is corrupt",
  13: "the disk is full",
  14: "the file can't be opened",
  18: "it is too large for SQLite",
  19: "its tables don't take it",
  20: "SQLite has no type for it",
  26: "it is not a SQLite database"
}
