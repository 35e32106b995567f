import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import * as StoreMaintenance from "../../src/durable/StoreMaintenance.ts"
import { StoreMetrics } from "../../src/durable/StoreMetrics.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"

const setUp = Effect.fnUntraced(function*(took: number) {
  const counts: Array<number> = []
  const store = Layer.mock(DeliveryStore)({
    prune: () => Effect.succeed(false),
    backlogs: Effect.sleep(took).pipe(Effect.andThen(Effect.sync(() => void counts.push(took))), Effect.as([]))
  })
  yield* Layer.build(StoreMaintenance.layer.pipe(Layer.provide([
    store,
    StoreMetrics.layer,
    Layer.mock(BackendRegistry)({ snapshot: () => [], isKnown: () => true, recordOutcome: () => {} }),
    Settings.layerFrom({})
  ])))
  return counts
})

describe("backlogs", () => {
  it.effect("are counted every five seconds", () =>
    Effect.gen(function*() {
      const counts = yield* setUp(10)
      yield* TestClock.adjust("61 seconds")
      assert.isAtLeast(counts.length, 12)
    }))

  it.effect("are counted the more rarely the longer it takes", () =>
    Effect.gen(function*() {
      const counts = yield* setUp(2_000)
      yield* TestClock.adjust("100 seconds")
      assert.lengthOf(counts, 1)
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(counts, 2)
    }))
})
