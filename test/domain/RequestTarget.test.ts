import { assert, describe, it } from "@effect/vitest"
import { pathEnd, pathOf, queryOf } from "../../src/domain/RequestTarget.ts"

describe("a request target", () => {
  it.each([
    ["/proxy", "/proxy", ""],
    ["/proxy?", "/proxy", ""],
    ["/proxy?a=1", "/proxy", "a=1"],
    ["/proxy?a=1?b=2", "/proxy", "a=1?b=2"],
    ["?a", "", "a"],
    ["", "", ""]
  ])("%j has the path %j and the query %j", (target, path, query) => {
    assert.deepStrictEqual([pathOf(target), queryOf(target), pathEnd(target)], [path, query, path.length])
  })
})
