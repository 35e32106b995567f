import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Identity } from "../../src/runtime/Identity.ts"

/** A layer that is provided twice is built once, unless it is fresh: each process has its own. */
const instance = Effect.provide(Effect.map(Identity, (identity) => identity.instance), Identity.layer, { local: true })

describe("Identity", () => {
  it.effect("is another one in each process", () =>
    Effect.gen(function*() {
      const all = yield* Effect.all(Array.from({ length: 100 }, () => instance))
      expect(new Set(all).size).toBe(100)
    }))

  it.effect("stays the same in one process", () =>
    Effect.gen(function*() {
      const one = (yield* Identity).instance
      expect((yield* Identity).instance).toBe(one)
    }).pipe(Effect.provide(Identity.layer)))
})
