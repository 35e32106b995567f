import { assert, describe, it } from "@effect/vitest"
import { FallbackQueue, type WaitingRecord } from "../../../src/durable/fallback/FallbackQueue.ts"

const record = (guid: string, backends: number): WaitingRecord => ({
  guid,
  hookId: "1",
  bodyHash: "00",
  receivedAt: 0,
  backends: Array.from({ length: backends }, (_, at) => ({ key: `http://${at}.test`, end: undefined }))
})

const guidsOf = (queue: FallbackQueue) => queue.next().map(({ guid }) => guid)

describe("records that wait for the store", () => {
  it("go in their order, and stay until they are written", () => {
    const queue = new FallbackQueue()
    for (const guid of ["a", "b", "c"]) assert.strictEqual(queue.add(record(guid, 1)), 0)
    assert.deepStrictEqual(guidsOf(queue), ["a", "b", "c"])
    queue.done(queue.next(2))
    assert.deepStrictEqual(guidsOf(queue), ["c"])
    queue.done(queue.next())
    assert.isTrue(queue.isEmpty)
  })

  it("are bounded by their backends: the oldest are dropped", () => {
    const queue = new FallbackQueue()
    for (let at = 0; at < 1_000; at += 1) assert.strictEqual(queue.add(record(String(at), 199)), 0)
    const taken = queue.next(1)
    assert.strictEqual(queue.add(record("one more", 399)), 2)
    assert.strictEqual(queue.length, 999)
    queue.done(taken)
    assert.strictEqual(queue.length, 999)
    assert.strictEqual(queue.add(record("too large by itself", 1_000_000)), 999)
    assert.deepStrictEqual(guidsOf(queue), ["too large by itself"])
  })

  it("are bounded also if they went to nobody", () => {
    const queue = new FallbackQueue()
    let dropped = 0
    for (let at = 0; at < 200_010; at += 1) dropped += queue.add(record("none", 0))
    assert.strictEqual(dropped, 10)
  })
})
