/** Maintains the store at intervals: removes what is too old, and counts the backlogs. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { BackendRegistry } from "../backends/Registry.ts"
import { parse } from "../domain/Backend.ts"
import { contained } from "../runtime/Contained.ts"
import { Settings } from "../settings/Settings.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import type { BackendBacklog, Retention } from "../store/contract/Upkeep.ts"
import { type HostBacklog, StoreMetrics } from "./StoreMetrics.ts"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const store = yield* DeliveryStore
  const metrics = yield* StoreMetrics
  const registry = yield* BackendRegistry
  const retainDead = Duration.toMillis(settings.retainDead)
  const retention: Retention = {
    delivered: Duration.toMillis(settings.retainDelivered),
    dead: retainDead,
    maxAge: Duration.toMillis(settings.maxDeliveryAge),
    recovery: Option.isSome(settings.githubAppId)
      ? Math.max(retainDead, Duration.toMillis(settings.recoveryMaxAge))
      : undefined
  }

  // Deliveries are written between two steps, so pruning never makes one wait for longer than a step takes.
  const prune = Effect.gen(function*() {
    for (let steps = 0; steps < mostSteps; steps += 1) {
      if (!(yield* store.prune(retention, stepSize))) return
      yield* Effect.sleep("20 millis")
    }
  })

  const count = Effect.map(store.backlogs, (backlogs) => {
    const nameOf = new Map(registry.snapshot().map(({ key, name }) => [key, name]))
    const byHost = new Map<string, HostBacklog>()
    for (const name of nameOf.values()) byHost.set(name, { pending: 0, dead: 0, oldestAge: 0 })
    for (const backlog of backlogs) {
      const host = nameOf.get(backlog.key) ?? nameOfKey(backlog)
      const { dead, oldestAge, pending } = byHost.get(host) ?? { pending: 0, dead: 0, oldestAge: 0 }
      // Backends that differ only in their schemes share their series.
      byHost.set(host, {
        pending: pending + backlog.pending,
        dead: dead + backlog.dead,
        oldestAge: Math.max(oldestAge, (backlog.oldestAge ?? 0) / 1_000)
      })
    }
    metrics.backlogs(byHost)
  })

  yield* Effect.forkScoped(contained(prune).pipe(Effect.repeat(Schedule.spaced("10 seconds"))))
  const counting = Effect.gen(function*() {
    const [took] = yield* Effect.timed(contained(count))
    yield* Effect.sleep(Duration.max(countInterval, Duration.times(took, 1 / longestShare)))
  })
  yield* Effect.forkScoped(Effect.forever(counting))
}))

/** The most deliveries that one transaction prunes. */
const stepSize = 200
const mostSteps = 400

/**
 * Counting goes through all pending rows. For millions that takes a second, so counting may take only this share of the
 * time.
 */
const countInterval = Duration.seconds(5)
const longestShare = 0.02

/** The name of a backend that is gone. Its rows stay for a while. */
const nameOfKey = ({ key }: BackendBacklog): string =>
  Option.match(Result.getSuccess(parse(key, "dynamic")), { onNone: () => key, onSome: ({ name }) => name })
