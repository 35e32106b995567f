/** The composition of the layers: in direct mode, in durable mode, and there with recovery. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { layerWith as routesWith } from "./Routes.ts"
import { untilShutDown } from "./Shutdown.ts"
import { announce } from "./Startup.ts"
import { BackendPolicy } from "./backends/Policy.ts"
import { BackendRegistry } from "./backends/Registry.ts"
import { BackendConnections } from "./backends/connections/Connections.ts"
import { Resolver } from "./backends/connections/Resolver.ts"
import { Forwarder } from "./forwarding/Forwarder.ts"
import { Ledger } from "./forwarding/Ledger.ts"
import { Spray } from "./forwarding/Spray.ts"
import * as MetricsServer from "./http/MetricsServer.ts"
import { PublicServer } from "./http/PublicServer.ts"
import { Readiness } from "./http/Readiness.ts"
import * as UnexpectedFailures from "./observability/UnexpectedFailures.ts"
import { DeliveryLog } from "./observability/logs/DeliveryLog.ts"
import { Log } from "./observability/logs/Logging.ts"
import { RefusalLog } from "./observability/logs/RefusalLog.ts"
import { Metrics } from "./observability/metrics/Metrics.ts"
import * as ProcessMetrics from "./observability/metrics/ProcessMetrics.ts"
import * as Telemetry from "./observability/telemetry/Telemetry.ts"
import type { GitHubApp } from "./recovery/github/Client.ts"
import { Instance } from "./runtime/Instance.ts"
import { MemoryBudget } from "./runtime/MemoryBudget.ts"
import { OwnListeners } from "./runtime/OwnListeners.ts"
import { Timers } from "./runtime/Timers.ts"
import { TurnBudget } from "./runtime/TurnBudget.ts"
import { Settings } from "./settings/Settings.ts"
import type { StoreLocation } from "./settings/StoreLocation.ts"
import { BodyReader } from "./webhook/BodyReader.ts"
import { Pseudonym } from "./webhook/Pseudonym.ts"
import { WebhookSecrets } from "./webhook/Secrets.ts"
import { WebhookVerifier } from "./webhook/Verifier.ts"

/**
 * The difference between direct and durable mode: the ledger below the spray, recovery above the ledger, and the backlog
 * and its routes above the spray.
 */
const direct = { ledger: Ledger.layerDirect, recovery: Layer.empty, backlog: Layer.empty, routes: Layer.empty }

const durable = (location: StoreLocation) =>
  Effect.map(
    Effect.promise(() => Promise.all([import("./durable/Mode.ts"), import("./operator/Routes.ts")])),
    ([{ layerBacklog, layerLedger }, { DeliveryRoutes }]) => ({
      ledger: layerLedger(location),
      recovery: Layer.empty,
      backlog: layerBacklog,
      routes: DeliveryRoutes
    })
  )

const recovering = (location: StoreLocation, app: GitHubApp) =>
  Effect.map(
    Effect.promise(() =>
      Promise.all([
        import("./durable/Mode.ts"),
        import("./recovery/Mode.ts"),
        import("./operator/Routes.ts"),
        import("./operator/recovery/Routes.ts")
      ])
    ),
    ([{ layerBacklog }, recovery, { DeliveryRoutes }, { RecoveryRoutes }]) => ({
      ledger: recovery.layerLedger(location),
      recovery: recovery.layerRecovery(app),
      backlog: layerBacklog,
      routes: Layer.merge(DeliveryRoutes, Layer.provide(RecoveryRoutes, recovery.layerReconciler))
    })
  )

/** Finalizers run from the top down: the listener closes first, then the spray ends, then connections are destroyed. */
const server = <A, E, R, ARecovery, ERecovery, RRecovery, RBacklog, RRoutes>(mode: {
  readonly ledger: Layer.Layer<A | Ledger, E, R>
  readonly recovery: Layer.Layer<ARecovery, ERecovery, RRecovery>
  readonly backlog: Layer.Layer<never, never, RBacklog>
  readonly routes: Layer.Layer<never, never, RRoutes>
}) =>
  Layer.mergeAll(
    Layer.mergeAll(routesWith(mode.routes), Layer.effectDiscard(announce)).pipe(
      Layer.provide(PublicServer.layerHttpServer)
    ),
    // Beside the public routes, not on top of them: there it would get their router.
    MetricsServer.layer,
    ProcessMetrics.layer,
    mode.backlog
  ).pipe(
    Layer.provideMerge(PublicServer.layer),
    Layer.provideMerge(Layer.mergeAll(Spray.layer, BodyReader.layer, WebhookVerifier.layer, Pseudonym.layer)),
    Layer.provideMerge(Layer.mergeAll(Forwarder.layer, DeliveryLog.layer, MemoryBudget.layer, WebhookSecrets.layer)),
    Layer.provideMerge(Layer.mergeAll(BackendConnections.layer, BackendRegistry.layer)),
    Layer.provideMerge(BackendPolicy.layer),
    Layer.provideMerge(mode.recovery),
    Layer.provideMerge(mode.ledger),
    Layer.provideMerge(
      Layer.mergeAll(
        Resolver.layer,
        RefusalLog.layer,
        Readiness.layer,
        Timers.layer,
        TurnBudget.layer,
        OwnListeners.layer
      )
    ),
    Layer.provideMerge(Layer.mergeAll(Telemetry.layer, UnexpectedFailures.layer, UnexpectedFailures.layerProcess)),
    Layer.provideMerge(Layer.mergeAll(Log.layer, Instance.layer)),
    Layer.provideMerge(Metrics.layer),
    Layer.provide(NodeFileSystem.layer)
  )

/** Serves until the process is told to stop. */
export const serve = (settings: Settings["Service"]) => {
  const Configured = Layer.succeed(Settings, settings)
  const { githubAppId, githubPrivateKeyFile, store } = settings
  if (Option.isNone(store)) return Effect.provide(untilShutDown, Layer.provideMerge(server(direct), Configured))
  const app = Option.all({ id: githubAppId, keyFile: githubPrivateKeyFile })
  if (Option.isNone(app)) {
    return Effect.flatMap(
      durable(store.value),
      (mode) => Effect.provide(untilShutDown, Layer.provideMerge(server(mode), Configured))
    )
  }
  return Effect.flatMap(
    recovering(store.value, app.value),
    (mode) => Effect.provide(untilShutDown, Layer.provideMerge(server(mode), Configured))
  )
}
