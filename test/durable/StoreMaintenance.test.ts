import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import * as StoreMaintenance from "../../src/durable/StoreMaintenance.ts"
import { StoreMetrics } from "../../src/durable/StoreMetrics.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import type { Retention } from "../../src/store/contract/Upkeep.ts"

const setUp = Effect.fnUntraced(function*(took: number, settings: Partial<Settings["Service"]> = {}) {
  const counts: Array<number> = []
  const retentions: Array<Retention> = []
  const store = Layer.mock(DeliveryStore)({
    prune: (retention) => Effect.sync(() => (retentions.push(retention), false)),
    backlogs: Effect.sleep(took).pipe(Effect.andThen(Effect.sync(() => void counts.push(took))), Effect.as([]))
  })
  yield* Layer.build(StoreMaintenance.layer.pipe(Layer.provide([
    store,
    StoreMetrics.layer,
    Layer.mock(BackendRegistry)({
      snapshot: () => [],
      isKnown: () => true,
      isFiltered: () => false,
      filterOf: () => undefined,
      recordOutcome: () => {}
    }),
    Settings.layerFrom(settings)
  ])))
  return { counts, retentions }
})

describe("backlogs", () => {
  it.effect("are counted every five seconds", () =>
    Effect.gen(function*() {
      const { counts } = yield* setUp(10)
      yield* TestClock.adjust("61 seconds")
      assert.isAtLeast(counts.length, 12)
    }))

  it.effect("are counted the more rarely the longer it takes", () =>
    Effect.gen(function*() {
      const { counts } = yield* setUp(2_000)
      yield* TestClock.adjust("100 seconds")
      assert.lengthOf(counts, 1)
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(counts, 2)
    }))
})

describe("pruning", () => {
  it.effect("keeps what recovery needs to know for as long as GitHub is asked, and only with recovery", () =>
    Effect.gen(function*() {
      const days = { retainDead: Duration.days(1), recoveryMaxAge: Duration.days(3) }
      const recoveryOf = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]>) {
        const { retentions } = yield* setUp(10, settings)
        yield* TestClock.adjust(1)
        return retentions[0]?.recovery
      })
      assert.isUndefined(yield* recoveryOf(days))
      const isOn = { ...days, githubAppId: Option.some(17) }
      assert.strictEqual(yield* recoveryOf(isOn), 3 * 86_400_000)
      assert.strictEqual(yield* recoveryOf({ ...isOn, retainDead: Duration.days(7) }), 7 * 86_400_000)
    }))
})
