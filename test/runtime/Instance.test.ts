import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Instance } from "../../src/runtime/Instance.ts"

/** A layer that is provided twice is built once, unless it is fresh: each process has its own. */
const instance = Effect.provide(Effect.map(Instance, ({ name }) => name), Instance.layer, { local: true })

describe("Instance", () => {
  it.effect("is another one in each process", () =>
    Effect.gen(function*() {
      const all = yield* Effect.all(Array.from({ length: 100 }, () => instance))
      expect(new Set(all).size).toBe(100)
    }))

  it.effect("stays the same in one process", () =>
    Effect.gen(function*() {
      const one = (yield* Instance).name
      expect((yield* Instance).name).toBe(one)
    }).pipe(Effect.provide(Instance.layer)))
})
