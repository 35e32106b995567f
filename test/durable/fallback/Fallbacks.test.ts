/** A delivery that goes without the store, from the ledger to its redelivery. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import type { AttemptReport } from "../../../src/domain/AttemptReport.ts"
import { parse } from "../../../src/domain/Backend.ts"
import { Body } from "../../../src/domain/Body.ts"
import type { Delivery } from "../../../src/domain/Delivery.ts"
import { BackendBreakers } from "../../../src/durable/BackendBreakers.ts"
import { SettlementPolicy } from "../../../src/durable/SettlementPolicy.ts"
import { StoreMetrics } from "../../../src/durable/StoreMetrics.ts"
import * as StoredLedger from "../../../src/durable/StoredLedger.ts"
import * as WatchedStore from "../../../src/durable/WatchedStore.ts"
import * as StoredFallbackRecords from "../../../src/durable/fallback/StoredFallbackRecords.ts"
import { DeliveryIds } from "../../../src/durable/writing/DeliveryIds.ts"
import { StoreWriter } from "../../../src/durable/writing/StoreWriter.ts"
import { Ledger, type LedgerEntry } from "../../../src/forwarding/Ledger.ts"
import { Log } from "../../../src/observability/logs/Logging.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { RecoveryStore } from "../../../src/store/RecoveryStore.ts"
import * as MemoryDeliveryStore from "../../support/MemoryDeliveryStore.ts"

const backends = ["http://a.test", "http://b.test", "http://c.test"].map((url) =>
  Result.getOrThrow(parse(url, "static"))
)
const [a, b, c] = backends as [typeof backends[0], typeof backends[0], typeof backends[0]]

const delivery: Delivery = {
  requestId: "request",
  guid: "guid",
  event: "push",
  method: "POST",
  target: "/",
  forwardedTarget: "/",
  headers: ["X-GitHub-Delivery", "guid", "X-GitHub-Hook-ID", "4711"],
  body: new Body([Buffer.from("{}")], 2)
}

const report = (outcome: AttemptReport["outcome"]): AttemptReport => ({
  outcome,
  status: undefined,
  error: undefined,
  answer: undefined,
  latency: 1,
  requests: 1
})

const setUp = Effect.gen(function*() {
  const database = new MemoryDeliveryStore.MemoryDatabase()
  const services = yield* Layer.build(
    StoredLedger.layer.pipe(
      Layer.provide(StoredFallbackRecords.layer),
      Layer.provideMerge(StoreWriter.layer),
      Layer.provideMerge(Layer.mergeAll(BackendBreakers.layer, SettlementPolicy.layer, DeliveryIds.layer)),
      Layer.provideMerge(
        WatchedStore.layerRecovering.pipe(Layer.provide(MemoryDeliveryStore.layer({ shared: database })))
      ),
      Layer.provideMerge(Layer.mergeAll(StoreMetrics.layer, Timers.layerClock, Log.layerTest, Settings.layerFrom({})))
    )
  )
  const ledger = Context.get(services, Ledger)
  /** The time passes that a write takes. */
  const record = Effect.gen(function*() {
    let entry: LedgerEntry | undefined
    ledger.record(delivery, backends, (recorded) => entry = recorded)
    yield* TestClock.adjust("3 seconds")
    return entry!
  })
  // The first probe finds the store there.
  yield* TestClock.adjust(1)
  return { database, ledger, record, recovery: Context.get(services, RecoveryStore) }
})

describe("a delivery that went without the store", () => {
  it.effect("is known when the store is back, and its redelivery goes only to backends that lack it", () =>
    Effect.gen(function*() {
      const { database, record, recovery } = yield* setUp
      database.fail = true
      const entry = yield* record
      assert.isFalse(entry.isDurable)
      entry.settled(a, report("delivered"))
      entry.settled(b, report("unreachable"))
      entry.settled(c, report("rejected"))
      yield* TestClock.adjust("1 minute")
      database.fail = false
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* recovery.recall(["guid"], "4711"), [
        { guid: "guid", held: false, fallback: "lacking", recovery: undefined }
      ])
      const again = yield* record
      assert.isTrue(again.isDurable)
      assert.deepStrictEqual(again.backends, [b])
    }))

  it.effect("leaves no record if it was written after all", () =>
    Effect.gen(function*() {
      const { database, record, recovery } = yield* setUp
      database.losesAnswers = true
      const entry = yield* record
      assert.isFalse(entry.isDurable)
      for (const backend of backends) entry.settled(backend, report("delivered"))
      database.losesAnswers = false
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* recovery.recall(["guid"], "4711"), [
        { guid: "guid", held: true, fallback: undefined, recovery: undefined }
      ])
      assert.strictEqual(database.fallbacks.size, 0)
    }))
})

describe("a delivery that no backend wants", () => {
  it.effect("is recovered if it was missing: GitHub is not asked for it again", () =>
    Effect.gen(function*() {
      const { database, ledger, recovery } = yield* setUp
      const wanted = { guid: "guid", event: "push", attemptId: "1", failedAt: 1, priority: 0 }
      yield* recovery.want([wanted], { anew: false })
      ledger.unmatched(delivery)
      yield* TestClock.adjust("5 seconds")
      assert.deepInclude(yield* recovery.recoveryCounts(), { wanted: 0, recovered: 1 })
      assert.strictEqual(database.fallbacks.size, 0)
      assert.strictEqual(database.deliveries.size, 0)
    }))
})
