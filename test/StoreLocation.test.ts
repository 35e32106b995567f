import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { parse } from "../src/StoreLocation.ts"

const located = (text: string) => {
  const location = Result.getOrThrow(parse(text))
  return location.kind === "sqlite" ? location.path : Redacted.value(location.url)
}

describe("a store", () => {
  it.each([
    ["sqlite:/var/lib/sprayproxy/deliveries.db", "/var/lib/sprayproxy/deliveries.db"],
    ["sqlite:///var/lib/d.db", "/var/lib/d.db"],
    ["sqlite:deliveries.db", "deliveries.db"]
  ])("%s is a file", (text, path) => {
    assert.strictEqual(located(text), path)
  })

  it.each(["postgres://u:p@db:5432/d?sslmode=verify-full", "postgresql://db/d"])("%s is a PostgreSQL", (text) => {
    assert.strictEqual(located(text), text)
  })

  it.each(["", "sqlite:", "/var/lib/d.db", "mysql://db/d", "postgres:", "postgres://", "postgres://["])(
    "%j is none",
    (text) => {
      assert.isTrue(Result.isFailure(parse(text)))
    }
  )

  it("keeps its password out of what is printed", () => {
    assert.notInclude(JSON.stringify(Result.getOrThrow(parse("postgres://u:hidden@db/d"))), "hidden")
  })
})
