import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { plainText } from "../../src/http/PlainText.ts"

const webResponse = (...args: Parameters<typeof plainText>) => HttpServerResponse.toWeb(plainText(...args))

describe("plainText", () => {
  it.effect("has the status, the words and the original's content type", () =>
    Effect.gen(function*() {
      const response = webResponse(413, "request body too large")
      assert.strictEqual(response.status, 413)
      assert.strictEqual(response.headers.get("content-type"), "text/plain; charset=utf-8")
      assert.strictEqual(yield* Effect.promise(() => response.text()), "request body too large")
    }))

  it.effect("keeps a trailing space and what is not ASCII", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.promise(() => webResponse(200, "Backend urls: ").text()), "Backend urls: ")
      assert.strictEqual(yield* Effect.promise(() => webResponse(200, "é€😀").text()), "é€😀")
    }))

  it("adds headers to its own", () => {
    const { headers } = webResponse(503, "overloaded", { "retry-after": "10" })
    assert.strictEqual(headers.get("retry-after"), "10")
    assert.strictEqual(headers.get("content-type"), "text/plain; charset=utf-8")
  })
})
