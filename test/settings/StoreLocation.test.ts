import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { parse } from "../../src/settings/StoreLocation.ts"

const located = (text: string) => {
  const location = Result.getOrThrow(parse(text))
  return location.kind === "sqlite" ? location.path : Redacted.value(location.url)
}

describe("a store", () => {
  it.each([
    ["sqlite:/var/lib/sprayproxy/deliveries.db", "/var/lib/sprayproxy/deliveries.db"],
    ["sqlite:///var/lib/d.db", "/var/lib/d.db"],
    ["sqlite:////var/lib/d.db", "//var/lib/d.db"],
    ["sqlite:/var/my lib/100%.db", "/var/my lib/100%.db"],
    ["sqlite:deliveries.db", "deliveries.db"]
  ])("%s is a file", (text, path) => {
    assert.strictEqual(located(text), path)
  })

  it.each([
    "postgres://u:p@db:5432/d?sslmode=verify-full",
    "postgresql://u@db/d",
    "postgres://u@[::1]/d",
    "postgres://db/?user=u&dbname=d&port=5433",
    "postgres:///d?host=/var/run/postgresql&user=u",
    "postgres://u:p%40%23@db/d?connect_timeout=3&channel_binding=prefer"
  ])("%s is a PostgreSQL", (text) => {
    assert.strictEqual(located(text), text)
  })

  const file = "a store in a file is sqlite:/path/to/file"
  const server =
    "a store in PostgreSQL is postgres://user:password@host:port/database, user and password percent-encoded where needed"

  it.each([
    ["sqlite:", `it names no file: ${file}`],
    ["sqlite:///", `it is a directory: ${file}`],
    ["sqlite://d.db", `a file has no host, and its path starts with one slash or three: ${file}`],
    ["sqlite://localhost/d.db", `a file has no host, and its path starts with one slash or three: ${file}`],
    ["sqlite:/d.db?mode=rwc", `a file has no parameters, and no ? or # in its path: ${file}`],
    ["sqlite:/d.db#x", `a file has no parameters, and no ? or # in its path: ${file}`],
    ["sqlite::memory:", `the store is a file on a disk, named by its path: ${file}`],
    ["sqlite:file:/d.db", `the store is a file on a disk, named by its path: ${file}`],
    ["sqlite:~/d.db", `no shell replaces the ~: ${file}`],
    ["sqlite:/var/lib/", `it is a directory: ${file}`],
    ["sqlite:/var/lib\n/d.db", `a path has no control characters: ${file}`],
    ["sqlite:$(DATA)/d.db", "$(DATA) in it was to be replaced by a value, and was not"],
    ["postgres://u:${PASSWORD}@db/d", "${PASSWORD} in it was to be replaced by a value, and was not"],
    ["postgres://u:p@db:5432", `it names no database: ${server}`],
    ["postgres://u:p@db/", `it names no database: ${server}`],
    ["postgres://db/d", `it names no user: ${server}`],
    ["postgres://u@one,two/d", `it names more than one server: ${server}`],
    ["postgres://u@one:1,two:2/d", `it is no url: ${server}`],
    ["postgres://u@db:0/d", `a port is a whole number from 1 to 65535: ${server}`],
    ["postgres://u@db/d?port=x", `a port is a whole number from 1 to 65535: ${server}`],
    ["postgres://u:1#2@db/d", `a # in it is written %23: ${server}`],
    ["postgres://u:p%@db/d", `a % in it is written %25: ${server}`],
    ["postgres://u@db/d?connect_timeout=3s", `connect_timeout is a whole number of seconds: ${server}`],
    [
      "postgres://u@db/d?sslmode=on",
      `sslmode is one of disable, allow, prefer, require, verify-ca, verify-full: ${server}`
    ]
  ])("%j is refused, and why", (text, reason) => {
    assert.deepStrictEqual(Result.getFailure(parse(text)), Option.some(reason))
  })

  it.each(["", "/var/lib/d.db", "mysql://db/d", "SQLITE:/d.db", "postgres:", "postgres://", "postgres://["])(
    "%j is none",
    (text) => {
      assert.isTrue(Result.isFailure(parse(text)))
    }
  )

  it("keeps its password out of what is printed", () => {
    assert.notInclude(JSON.stringify(Result.getOrThrow(parse("postgres://u:hidden@db/d"))), "hidden")
  })
})
