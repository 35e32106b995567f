/**
 * Where the store is: a file of SQLite's, or a PostgreSQL.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

export type StoreLocation =
  | { readonly kind: "sqlite"; readonly path: string }
  | {
    readonly kind: "postgres"
    /** With its password. */
    readonly url: Redacted.Redacted<string>
  }

/** `sqlite:/path/to/file`, `postgres://…` or `postgresql://…`; else what is allowed. */
export const parse = (text: string): Result.Result<StoreLocation, string> => {
  const path = /^sqlite:(?:\/\/(?=\/))?(.+)$/s.exec(text)?.[1]
  if (path !== undefined) return Result.succeed({ kind: "sqlite", path })
  if (/^postgres(ql)?:\/\/./.test(text) && URL.canParse(text)) {
    return Result.succeed({ kind: "postgres", url: Redacted.make(text) })
  }
  return Result.fail("a store is sqlite:/path/to/file or postgres://user:password@host:port/database")
}
