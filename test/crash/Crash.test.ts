import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { crash } from "./Crash.ts"

describe("killed at random moments under load", () => {
  it.live(
    "it loses nothing that was answered 202, and sends again only what no life had settled",
    () =>
      Effect.gen(function*() {
        const seed = Math.floor(Math.random() * 2 ** 31)
        const report = yield* crash({ kills: 12, seed, patience: 60_000 })
        const told = `seed ${seed}: ${JSON.stringify(report)}`
        assert.deepStrictEqual(report.lost, [], told)
        assert.deepStrictEqual(report.wrongs, [], told)
        assert.isAbove(report.accepted, 0, told)
        assert.isAbove(report.calledDelivered, 0, told)
        assert.isAtLeast(report.attempts, 3 * report.accepted, told)
      }),
    300_000
  )
})
