/**
 * The delivery store, with each failure counted and logged.
 *
 * **Details**
 *
 * If an operation fails again for the same reason, that is logged once a minute. Failed writes and probes are not
 * logged here, because the writer logs that the store is down.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Log } from "../observability/logs/Logging.ts"
import { Timers } from "../runtime/Timers.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import { RecoveryStore } from "../store/RecoveryStore.ts"
import type { StoreUnavailable } from "../store/contract/Unavailable.ts"
import { StoreMetrics } from "./StoreMetrics.ts"

/** Watches each operation of a store. */
const watching = Effect.gen(function*() {
  const metrics = yield* StoreMetrics
  const log = yield* Log
  const timers = yield* Timers
  const told = new Map<string, { readonly reason: string; readonly at: number }>()

  const failed = (operation: string, { fault, reason }: StoreUnavailable) => {
    metrics.failed(operation)
    if (toldElsewhere.has(operation)) return
    const last = told.get(operation)
    const at = timers.now()
    if (last?.reason === reason && at - last.at < silence) return
    told.set(operation, { reason, at })
    log.write("warn", "the store failed", { operation, fault, reason })
  }

  const watched = (operation: string, effect: Effect.Effect<unknown, StoreUnavailable>) =>
    Effect.tapError(effect, (error) => Effect.sync(() => failed(operation, error)))

  return <Store extends object>(store: Store): Store => {
    const operations = Object.entries(store).map(([name, operation]) => {
      metrics.watched(name)
      return [
        name,
        typeof operation === "function"
          ? (...args: ReadonlyArray<unknown>) => watched(name, (operation as AnyOperation)(...args))
          : watched(name, operation)
      ] as const
    })
    return Object.fromEntries(operations) as unknown as Store
  }
})

export const layer = Layer.effect(
  DeliveryStore,
  Effect.gen(function*() {
    const watch = yield* watching
    return watch(yield* DeliveryStore)
  })
)

/** The same of a store with recovery. */
export const layerRecovering = Layer.merge(
  layer,
  Layer.effect(
    RecoveryStore,
    Effect.gen(function*() {
      const watch = yield* watching
      return watch(yield* RecoveryStore)
    })
  )
)

type AnyOperation = (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, StoreUnavailable>

const toldElsewhere = new Set(["write", "probe"])

/** Milliseconds. */
const silence = 60_000
