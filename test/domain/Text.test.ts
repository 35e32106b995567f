import { assert, describe, it } from "@effect/vitest"
import { innermostMessage, oneLine, printable, quote } from "../../src/domain/Text.ts"

describe("text for people", () => {
  it("can't break, hide or turn a line", () => {
    assert.strictEqual(printable("a\nb\u001b[1m\u202ec\u2028"), "a\\u000ab\\u001b[1m\\u202ec\\u2028")
    assert.strictEqual(quote("a\"\u202e"), "\"a\\\"\\u202e\"")
  })

  it("of several lines becomes one", () => {
    assert.strictEqual(oneLine("Error: a\n    at b\n\n  at c"), "Error: a at b at c")
  })
})

describe("the innermost message of an error", () => {
  it("is that of its last cause, or the name of one that says nothing", () => {
    const cause = new Error("listen EADDRINUSE")
    assert.strictEqual(innermostMessage(new Error("ServeError", { cause: new Error("", { cause }) })), cause.message)
    assert.strictEqual(innermostMessage(new TypeError("")), "TypeError")
    assert.strictEqual(innermostMessage("text"), "text")
  })

  it("is that of the first of several", () => {
    const error = new AggregateError([new Error("refused"), new Error("unreachable")])
    assert.strictEqual(innermostMessage(new Error("fetch failed", { cause: error })), "refused")
  })
})
