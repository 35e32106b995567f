/**
 * The layers that recovery adds to durable mode. This file is loaded only if there is a GitHub App, so that others pay
 * nothing for it.
 */
import * as Layer from "effect/Layer"
import { layerLedgerOn } from "../durable/Mode.ts"
import * as WatchedStore from "../durable/WatchedStore.ts"
import * as StoredFallbackRecords from "../durable/fallback/StoredFallbackRecords.ts"
import type { StoreLocation } from "../settings/StoreLocation.ts"
import * as SqlRecoveryStore from "../store/SqlRecoveryStore.ts"
import { Recovery } from "./Recovery.ts"
import { RecoveryMetrics } from "./RecoveryMetrics.ts"
import type { GitHubApp } from "./github/Client.ts"
import * as OctokitLog from "./github/OctokitLog.ts"
import { Reconciler } from "./reconciler/Reconciler.ts"
import { ReconcilerMetrics } from "./reconciler/ReconcilerMetrics.ts"

/** The part below the spray: that of durable mode, with the records of recovery. */
export const layerLedger = (location: StoreLocation) =>
  layerLedgerOn(location, {
    layerStore: SqlRecoveryStore.layer,
    layerWatched: WatchedStore.layerRecovering,
    layerFallbacks: StoredFallbackRecords.layer
  })

/** The part above the store: GitHub's log. */
export const layerRecovery = (app: GitHubApp) => Layer.provideMerge(OctokitLog.layer(app), RecoveryMetrics.layer)

/** The part above the spray: what looks, asks, and answers operators. */
export const layerReconciler = Recovery.layer.pipe(
  Layer.provide(Reconciler.layer),
  Layer.provide(ReconcilerMetrics.layer)
)
