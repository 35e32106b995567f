import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { DeliveryIds } from "../../../src/durable/writing/DeliveryIds.ts"

describe("ids of deliveries", () => {
  it.effect("are all different, and sort by arrival, over many draws", () =>
    Effect.gen(function*() {
      const { next } = yield* DeliveryIds
      const ids = Array.from({ length: 5_000 }, next)
      assert.strictEqual(new Set(ids).size, ids.length)
      assert.deepStrictEqual(ids.toSorted(), ids)
      for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    }).pipe(Effect.provide(DeliveryIds.layer)))
})
