import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { StoreMetrics } from "../../src/durable/StoreMetrics.ts"
import * as WatchedStore from "../../src/durable/WatchedStore.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { RecoveryStore } from "../../src/store/RecoveryStore.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"
import { scrape, withFreshMetrics } from "../support/Scrape.ts"
import { newDelivery } from "../support/StoreDatabases.ts"

const counted = (...operations: ReadonlyArray<string>) =>
  Effect.map(
    scrape,
    (seen) => operations.map((operation) => seen.value(`sprayproxy_store_failures_total{operation="${operation}"}`))
  )

const setUp = Effect.gen(function*() {
  const database = new MemoryDeliveryStore.MemoryDatabase()
  const services = yield* Layer.build(
    WatchedStore.layerRecovering.pipe(
      Layer.provide(MemoryDeliveryStore.layer({ shared: database })),
      Layer.provide(Timers.layerClock),
      Layer.provide(StoreMetrics.layer),
      Layer.provideMerge(Log.layerTest)
    )
  )
  const logged = Effect.map(LogEntries, ({ entries }) => entries.map(({ fields }) => fields["operation"])).pipe(
    Effect.provideContext(services)
  )
  return {
    database,
    logged,
    store: Context.get(services, DeliveryStore),
    recovery: Context.get(services, RecoveryStore)
  }
})

describe("a store that fails", () => {
  it.effect("has each failure counted by what it was asked, and logged once a minute for the same reason", () =>
    Effect.gen(function*() {
      const { database, logged, store } = yield* setUp
      yield* store.write({ deliveries: [newDelivery()], settlements: [] })
      assert.lengthOf((yield* store.list({}, { limit: 10 })).deliveries, 1)
      database.fail = true
      for (let seconds = 0; seconds < 90; seconds += 30) {
        assert.strictEqual((yield* Effect.flip(store.backlogs)).reason, "told to fail")
        assert.strictEqual((yield* Effect.flip(store.list({}, { limit: 10 }))).reason, "told to fail")
        yield* TestClock.adjust("30 seconds")
      }
      assert.deepStrictEqual(yield* counted("backlogs", "list", "prune"), [3, 3, 0])
      assert.deepStrictEqual(yield* logged, ["backlogs", "list", "backlogs", "list"])
    }).pipe(withFreshMetrics))

  it.effect("has those of recovery counted and logged too", () =>
    Effect.gen(function*() {
      const { database, logged, recovery } = yield* setUp
      assert.isTrue(yield* recovery.lead(1_000))
      database.fail = true
      yield* Effect.flip(recovery.progress)
      yield* Effect.flip(recovery.lead(1_000))
      assert.deepStrictEqual(yield* counted("lead", "progress", "want"), [1, 1, 0])
      assert.deepStrictEqual(yield* logged, ["progress", "lead"])
    }).pipe(withFreshMetrics))

  it.effect("leaves it to the writer to tell that it takes nothing", () =>
    Effect.gen(function*() {
      const { database, logged, store } = yield* setUp
      database.fail = true
      yield* Effect.flip(store.write({ deliveries: [], settlements: [] }))
      assert.deepStrictEqual(yield* counted("write", "due"), [1, 0])
      assert.deepStrictEqual(yield* logged, [])
    }).pipe(withFreshMetrics))
})
