import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { chaos } from "./Chaos.ts"
import { sqliteStore } from "./Stores.ts"

describe("everything at once", () => {
  it.live(
    "it loses nothing that was answered 202, and sends nothing twice without a reason",
    () =>
      Effect.gen(function*() {
        const seed = Math.floor(Math.random() * 2 ** 31)
        const report = yield* chaos({ store: sqliteStore, duration: 25_000, seed, patience: 60_000 })
        const told = `seed ${seed}: ${JSON.stringify(report)}`
        assert.deepStrictEqual(report.lost, [], told)
        assert.deepStrictEqual(report.wrongs, [], told)
        assert.isAbove(report.accepted, 0, told)
      }),
    300_000
  )
})
