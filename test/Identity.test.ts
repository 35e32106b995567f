import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { isLoop } from "../src/ForwardedHeaders.ts"
import { Identity } from "../src/Identity.ts"

/** A layer that is provided twice is built once, unless it is fresh: each process has its own. */
const pseudonym = Effect.provide(Effect.map(Identity, (identity) => identity.pseudonym), Identity.layer, {
  local: true
})

describe("Identity", () => {
  it.effect("is a pseudonym that RFC 9110 allows in Via, and that the loop check knows as a sprayproxy's", () =>
    Effect.gen(function*() {
      const self = yield* pseudonym
      expect(self).toMatch(/^sprayproxy-[0-9a-f]{16}$/)
      expect(isLoop(`1.1 ${self}`, self)).toBe(true)
      expect(isLoop(`1.1 ${self}`, yield* pseudonym)).toBe(false)
    }))

  it.effect("is another one in each process", () =>
    Effect.gen(function*() {
      const all = yield* Effect.all(Array.from({ length: 100 }, () => pseudonym))
      expect(new Set(all).size).toBe(100)
    }))

  it.effect("stays the same in one process", () =>
    Effect.gen(function*() {
      const one = (yield* Identity).pseudonym
      expect((yield* Identity).pseudonym).toBe(one)
    }).pipe(Effect.provide(Identity.layer)))
})
