import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Readiness } from "../../src/http/Readiness.ts"

describe("Readiness", () => {
  it.effect("is given until draining begins, and never again after that", () =>
    Effect.gen(function*() {
      const readiness = yield* Readiness
      expect(readiness.isDraining()).toBe(false)
      readiness.beginDraining()
      expect(readiness.isDraining()).toBe(true)
      readiness.beginDraining()
      expect(readiness.isDraining()).toBe(true)
    }).pipe(Effect.provide(Readiness.layer)))
})
