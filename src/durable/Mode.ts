/**
 * The layers that durable mode adds to the program. This file is loaded only if a store is set, so that direct mode
 * does not pay for it, least of all in its start.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Log } from "../observability/logs/Logging.ts"
import { Instance } from "../runtime/Instance.ts"
import type { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import type { StoreLocation } from "../settings/StoreLocation.ts"
import type { DeliveryStore } from "../store/DeliveryStore.ts"
import * as SqlDeliveryStore from "../store/SqlDeliveryStore.ts"
import type { StoreUnusable } from "../store/contract/Unavailable.ts"
import { BackendBreakers } from "./BackendBreakers.ts"
import * as Backlog from "./Backlog.ts"
import { SettlementPolicy } from "./SettlementPolicy.ts"
import * as StoreMaintenance from "./StoreMaintenance.ts"
import { StoreMetrics } from "./StoreMetrics.ts"
import * as StoredLedger from "./StoredLedger.ts"
import * as StoredMembership from "./StoredMembership.ts"
import * as WatchedStore from "./WatchedStore.ts"
import { FallbackRecords } from "./fallback/FallbackRecords.ts"
import { DeliveryIds } from "./writing/DeliveryIds.ts"
import { StoreWriter } from "./writing/StoreWriter.ts"

/** The parts in which a store with recovery differs from one without. `A` is what the former has more. */
interface StoreParts<A> {
  readonly layerStore: (
    location: StoreLocation,
    options: SqlDeliveryStore.SqlDeliveryStoreOptions
  ) => Layer.Layer<DeliveryStore | A, StoreUnusable>
  readonly layerWatched: Layer.Layer<DeliveryStore | A, never, DeliveryStore | A | StoreMetrics | Log | Timers>
  readonly layerFallbacks: Layer.Layer<FallbackRecords, never, A | StoreWriter | Log | Timers>
}

/** The part below the spray: the store, and the ledger that writes to it. */
export const layerLedger = (location: StoreLocation) =>
  layerLedgerOn(location, {
    layerStore: SqlDeliveryStore.layer,
    layerWatched: WatchedStore.layer,
    layerFallbacks: FallbackRecords.layerNone
  })

/** The same on another store. */
export const layerLedgerOn = <A = never>(
  location: StoreLocation,
  { layerFallbacks, layerStore, layerWatched }: StoreParts<A>
) =>
  Layer.mergeAll(StoredLedger.layer, StoredMembership.layer).pipe(
    Layer.provideMerge(layerFallbacks),
    Layer.provideMerge(StoreWriter.layer),
    Layer.provideMerge(Layer.mergeAll(BackendBreakers.layer, SettlementPolicy.layer, DeliveryIds.layer)),
    Layer.provideMerge(
      layerWatched.pipe(Layer.provide(Layer.unwrap(Effect.gen(function*() {
        const { name: instance } = yield* Instance
        const { forwardingTimeout } = yield* Settings
        // An attempt ends with the forwarding timeout, so a process that holds a row for longer is gone.
        const lease = Duration.toMillis(forwardingTimeout) + leaseMargin
        return layerStore(location, { owner: instance, lease })
      }))))
    ),
    Layer.provideMerge(StoreMetrics.layer)
  )

/** The part above the spray: the backlog, and what cleans up. */
export const layerBacklog = Layer.mergeAll(Backlog.layer, StoreMaintenance.layer)

/** Milliseconds in which a claimed row's attempt begins, and its outcome is written. */
const leaseMargin = 15_000
