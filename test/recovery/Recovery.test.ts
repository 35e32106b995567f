import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { mostFound, Recovery } from "../../src/recovery/Recovery.ts"

describe("recovery", () => {
  it.effect("finds no more in one go than it says", () =>
    Effect.gen(function*() {
      const { look } = yield* Recovery
      const found = yield* Stream.runCollect(look({ since: 0, dryRun: true, run: "1" }))
      for (const one of found) if (one.kind === "found") assert.isAtMost(one.deliveries.length, mostFound)
    }).pipe(Effect.provideService(Recovery, {
      look: () => Stream.make({ kind: "found", deliveries: [] }),
      status: () => Effect.die("unused")
    })))
})
