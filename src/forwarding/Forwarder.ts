/** Makes the attempts on deliveries, one for each backend of a delivery. All attempts on one backend share a lane. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { BackendConnections } from "../backends/connections/Connections.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { Attempt, type AttemptObserver, type RetryPolicy } from "./Attempt.ts"
import { Lane, type LaneLimits } from "./BackendLane.ts"

export class Forwarder extends Context.Service<Forwarder, {
  /** An attempt that is not yet started. Its caller calls `expire` on it at `deadline` (a time of `Timers.now`). */
  readonly attempt: (backend: Backend, delivery: Delivery, deadline: number, observer: AttemptObserver) => Attempt
}>()("sprayproxy/forwarding/Forwarder") {
  static readonly layer = Layer.effect(
    Forwarder,
    Effect.gen(function*() {
      const settings = yield* Settings
      const connections = yield* BackendConnections
      const timers = yield* Timers
      const metrics = yield* Metrics
      const lanes = new WeakMap<Backend, Lane>()
      const limits: LaneLimits = {
        concurrency: settings.backendConcurrency,
        behindBytes: settings.bodyMemory / 4
      }
      const retry: RetryPolicy = { retries: settings.forwardingRetries, retried: metrics.retried }
      return Forwarder.of({
        attempt: (backend, delivery, deadline, observer) => {
          let lane = lanes.get(backend)
          if (lane === undefined) {
            lane = new Lane(backend, connections.dispatcherFor(backend), limits, timers)
            lanes.set(backend, lane)
          }
          return new Attempt(lane, delivery, deadline, observer, retry)
        }
      })
    })
  )
}
