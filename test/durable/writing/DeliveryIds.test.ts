import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as DeliveryIds from "../../../src/durable/writing/DeliveryIds.ts"

describe("ids of deliveries", () => {
  it.effect("are all different, and sort by arrival, over many draws", () =>
    Effect.gen(function*() {
      const { randomBytes, uuidV7 } = yield* SecureRandom
      const ids: Array<string> = []
      for (let n = 0; n < 5_000; n += 1) ids.push(yield* uuidV7())
      assert.strictEqual(new Set(ids).size, ids.length)
      assert.deepStrictEqual(ids.toSorted(), ids)
      for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      assert.strictEqual((yield* randomBytes(100_000)).length, 100_000)
    }).pipe(Effect.provide(DeliveryIds.layer)))
})
