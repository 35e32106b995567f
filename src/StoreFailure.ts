/**
 * What a failing database means for the store, in words that name no address, no user and no secret.
 */
import type { SqlError } from "effect/sql/SqlError"

/** One line for a log or an operator. */
export const reasonOf = (error: SqlError): string => {
  const { cause, message } = error.reason as { readonly cause?: Cause; readonly message?: string }
  if (cause?.refusal !== undefined) return cause.refusal
  if (isBadUrl(error)) return "its URL can't be used"
  const code = cause?.code
  if (typeof code === "string") {
    if (sqlStates[code] !== undefined) return sqlStates[code]
    if (/^[0-9A-Z]{5}$/.test(code)) return `PostgreSQL refused with SQLSTATE ${code}`
    return `PostgreSQL can't be reached (${code})`
  }
  if (typeof cause?.errno === "number") {
    return sqliteCodes[cause.errno & 0xff] ?? `SQLite failed with code ${cause.errno}`
  }
  return error.reason._tag === "AuthenticationError"
    ? "PostgreSQL refused the login"
    : error.reason._tag === "ConnectionError"
    ? "the database can't be reached"
    : /^PgConnection: /.test(message ?? "")
    ? `PostgreSQL's client failed: ${message!.slice("PgConnection: ".length)}`
    : "the database failed"
}

/** It would fail again: somebody has to change something first. */
export const isDefinite = (error: SqlError): boolean => {
  const { _tag, cause } = error.reason as { readonly _tag: string; readonly cause?: Cause }
  return definiteTags.has(_tag) || definiteStates.has(String(cause?.code)) || isBadUrl(error)
}

/** Somebody else was in the way: it may work when it is done again. */
export const isConflict = (error: SqlError): boolean => conflictTags.has(error.reason._tag)

const isBadUrl = (error: SqlError): boolean =>
  error.reason._tag === "ConnectionError" && /\bURL\b|No username/.test(error.reason.message ?? "")

interface Cause {
  readonly refusal?: string | undefined
  readonly code?: string
  readonly errno?: number
}

const conflictTags = new Set<string>(["DeadlockError", "SerializationError", "UniqueViolation", "ConstraintError"])
const definiteTags = new Set<string>(["AuthenticationError", "AuthorizationError", "SqlSyntaxError"])
const definiteStates = new Set(["3D000", "3F000"])

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
  "57P03": "PostgreSQL is starting"
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
  26: "it is not a SQLite database"
}
