import { assert, describe, it } from "@effect/vitest"
import { DeliveryWrite } from "../../../src/durable/writing/DeliveryWrite.ts"
import { WriteQueue } from "../../../src/durable/writing/WriteQueue.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"

const write = (size = 1) => {
  const request = { size, delivery: () => ({}) as NewDelivery, written() {}, refused() {}, writtenLate() {} }
  return new DeliveryWrite(request, { stored() {}, refused() {} })
}

const setUp = () => {
  const clock = { now: 1_000 }
  const queue = new WriteQueue(() => clock.now)
  const settle = () => {
    queue.settlements.add({ id: "1", key: "http://a", attempt: undefined, become: "delivered" })
    return queue.addedOutcome()
  }
  const taken = () => {
    const { deliveries, settlements } = queue.take()
    return [deliveries.length, settlements.length]
  }
  return { clock, queue, settle, taken }
}

describe("what waits for the store", () => {
  it("is nothing at first", () => {
    const { queue } = setUp()
    assert.isTrue(queue.isEmpty)
    assert.strictEqual(queue.wait, Infinity)
  })

  it("goes 2 ms after the first delivery, with all that has come by then", () => {
    const { clock, queue, taken } = setUp()
    assert.isTrue(queue.addDelivery(write()))
    clock.now += 1
    assert.isFalse(queue.addDelivery(write()))
    assert.strictEqual(queue.wait, 1)
    clock.now += 1
    assert.strictEqual(queue.wait, 0)
    assert.deepStrictEqual(taken(), [2, 0])
    assert.isTrue(queue.isEmpty)
  })

  it("lets an outcome wait for a delivery, but not for long", () => {
    const { clock, queue, settle, taken } = setUp()
    assert.isTrue(settle())
    assert.isFalse(settle())
    assert.strictEqual(queue.wait, 20)
    clock.now += 15
    assert.strictEqual(queue.wait, 5)
    assert.isTrue(queue.addDelivery(write()))
    assert.strictEqual(queue.wait, 2)
    clock.now += 2
    assert.deepStrictEqual(taken(), [1, 2])
  })

  it("goes some milliseconds after what went before it", () => {
    const { clock, queue, taken } = setUp()
    queue.addDelivery(write())
    clock.now += 2
    taken()
    queue.addDelivery(write())
    assert.strictEqual(queue.wait, 3)
    clock.now += 60
    assert.isAtMost(queue.wait, 0)
  })

  it("goes at once when it fills a transaction", () => {
    const { queue, settle, taken } = setUp()
    taken()
    for (let n = 1; n < 256; n += 1) queue.addDelivery(write())
    assert.isAbove(queue.wait, 0)
    assert.isTrue(queue.addDelivery(write()))
    assert.strictEqual(queue.wait, 0)
    assert.deepStrictEqual(taken(), [256, 0])
    assert.isTrue(queue.addDelivery(write(3 * 1024 * 1024)))
    assert.strictEqual(queue.wait, 0)
    taken()
    for (let n = 1; n < 1_000; n += 1) settle()
    assert.isAbove(queue.wait, 0)
    assert.isTrue(settle())
    assert.strictEqual(queue.wait, 0)
  })

  it("holds at most so many bytes in a transaction, but for a single delivery", () => {
    const { queue, taken } = setUp()
    for (const mebibytes of [25, 1.5, 0.5, 0.5]) queue.addDelivery(write(mebibytes * 1024 * 1024))
    assert.deepStrictEqual([taken(), taken(), taken()], [[1, 0], [2, 0], [1, 0]])
  })

  it("forgets a delivery that is not to be written", () => {
    const { queue, taken } = setUp()
    const [one, other] = [write(2 * 1024 * 1024), write()]
    queue.addDelivery(one)
    queue.addDelivery(other)
    queue.remove(one)
    queue.remove(one)
    assert.isAbove(queue.wait, 0)
    assert.deepStrictEqual(queue.removeDeliveries(), [other])
    assert.deepStrictEqual(taken(), [0, 0])
  })
})
