import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { getHeapStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as BatchWriter from "../../../src/durable/writing/BatchWriter.ts"
import { DeliveryWrite } from "../../../src/durable/writing/DeliveryWrite.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"

const nothing = () => {}

const writer = BatchWriter.make(
  {
    store: {
      write: ({ deliveries }: { readonly deliveries: ReadonlyArray<NewDelivery> }) =>
        Effect.as(
          Effect.promise(() => new Promise((resolve) => setImmediate(resolve))),
          deliveries.map(({ id }) => ({ id, isRedelivery: false, owned: [] }))
        )
    },
    health: { wrote: nothing },
    settlements: { written: nothing },
    metrics: { wrote: nothing },
    timers: { now: () => 0 }
  } as unknown as Parameters<typeof BatchWriter.make>[0]
)

/** A delivery that holds about `bytes` of V8's heap. */
const deliveryOf = (bytes: number) => {
  const held = Array.from({ length: bytes / 8 }, Math.random)
  const delivery = () => ({ id: String(held.length), targets: [] }) as unknown as NewDelivery
  return new DeliveryWrite(
    { size: 1, delivery, written: nothing, refused: nothing, writtenLate: nothing },
    { stored: nothing, refused: nothing }
  )
}

/** Collects what is young, or everything, as `gc` of `node --expose-gc` does. */
const collect = (type: "minor" | "major"): void => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")({ type })
}

describe("the writer of batches", () => {
  // Otherwise each delivery grows old in V8's heap, and is copied twice and marked before it goes.
  it.live("leaves nothing of a written batch to the next full collection", () =>
    Effect.gen(function*() {
      const [bytes, batches] = [32 * 1024, 250]
      const round = Effect.forEach(
        Array.from({ length: batches }),
        () => Effect.suspend(() => writer.write({ deliveries: [deliveryOf(bytes)], settlements: [] })),
        { discard: true }
      )
      const kept: Array<number> = []
      // While V8 marks for a collection of its own, it keeps all that comes. So the best of some rounds counts.
      for (let i = 0; i < 8; i += 1) {
        yield* round
        collect("major")
        const before = getHeapStatistics().used_heap_size
        yield* round
        for (let j = 0; j < 3; j += 1) collect("minor")
        kept.push(getHeapStatistics().used_heap_size - before)
      }
      assert.isBelow(Math.min(...kept), bytes * batches / 4)
    }))
})
