import { assert, describe, it } from "@effect/vitest"
import { StoreCapacity } from "../../../src/durable/writing/Capacity.ts"

describe("the store's capacity", () => {
  it("ends below the limit", () => {
    const capacity = new StoreCapacity(100)
    assert.isTrue(capacity.hasRoomFor(99))
    assert.isFalse(capacity.hasRoomFor(100))
  })

  it("counts what was written until it is measured again", () => {
    const capacity = new StoreCapacity(100)
    capacity.measured(50)
    capacity.wrote(40)
    assert.isFalse(capacity.hasRoomFor(10))
    capacity.measured(80)
    assert.isTrue(capacity.hasRoomFor(10))
  })
})
