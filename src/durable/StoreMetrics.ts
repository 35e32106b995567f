/** What is counted of the store and its backlogs. Only there in durable mode. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Names from "../observability/metrics/Names.ts"

/** Why a delivery was forwarded without the store. */
const storeFallbacks = ["unavailable", "timeout", "full", "unstorable"] as const
export type StoreFallback = typeof storeFallbacks[number]

/** Why an outcome is not kept. */
const outcomeDrops = ["overflow", "unstorable"] as const
export type OutcomeDrop = typeof outcomeDrops[number]

/** What a host's backends are still to get. */
export interface HostBacklog {
  readonly pending: number
  readonly dead: number
  /** Seconds. */
  readonly oldestAge: number
}

export class StoreMetrics extends Context.Service<StoreMetrics, {
  readonly fellBack: (reason: StoreFallback) => void
  readonly droppedOutcome: (reason: OutcomeDrop) => void
  /** An operation whose failures are counted, from 0 on. */
  readonly watched: (operation: string) => void
  readonly failed: (operation: string) => void
  /** Milliseconds of one transaction. */
  readonly wrote: (duration: number) => void
  readonly up: (isUp: boolean) => void
  readonly used: (bytes: number) => void
  readonly limit: (bytes: number) => void
  /** Attempts made again from the store; `host` as logs and metrics name a backend. */
  readonly sentAgain: (host: string) => void
  /** All of them; a host that is not among them has its series removed, and what still comes of it is not counted. */
  readonly backlogs: (byHost: ReadonlyMap<string, HostBacklog>) => void
}>()("sprayproxy/durable/StoreMetrics") {
  static readonly layer = Layer.effect(
    StoreMetrics,
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const set = (metric: Metric.Metric<number, unknown>) => {
        metric.updateUnsafe(0, context)
        return (value: number) => metric.updateUnsafe(value, context)
      }
      const increment = (metric: Metric.Metric<number, unknown>) => {
        metric.updateUnsafe(0, context)
        return () => metric.updateUnsafe(1, context)
      }
      const counter = ({ help, name }: Names.MetricName, attributes: Record<string, string>) =>
        increment(Metric.counter(name, { description: help, incremental: true, attributes }))
      const fallbacks = Object.fromEntries(
        storeFallbacks.map((reason) => [reason, counter(Names.storeFallbacks, { reason })])
      )
      const drops = Object.fromEntries(
        outcomeDrops.map((reason) => [reason, counter(Names.storeOutcomesDropped, { reason })])
      )
      const failures = new Map<string, () => void>()
      const writes = Metric.histogram(Names.storeWriteDuration.name, {
        description: Names.storeWriteDuration.help,
        boundaries: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2]
      })
      writes.valueUnsafe(context)
      const up = set(gauge(Names.storeUp))

      const seriesOf = (host: string) => ({
        pending: gauge(Names.backlogDeliveries, { host }),
        oldestAge: gauge(Names.backlogOldestAge, { host }),
        dead: gauge(Names.deadDeliveries, { host }),
        sentAgain: Metric.counter(Names.redeliveries.name, {
          description: Names.redeliveries.help,
          incremental: true,
          attributes: { host }
        })
      })
      const shown = new Map<string, ReturnType<typeof seriesOf>>()
      /** Of hosts that are not shown yet. */
      let early = new Map<string, number>()

      return StoreMetrics.of({
        fellBack: (reason) => fallbacks[reason]!(),
        droppedOutcome: (reason) => drops[reason]!(),
        watched: (operation) => {
          failures.set(operation, counter(Names.storeFailures, { operation }))
        },
        failed: (operation) => failures.get(operation)?.(),
        wrote: (duration) => writes.updateUnsafe(duration / 1_000, context),
        up: (isUp) => up(isUp ? 1 : 0),
        used: set(gauge(Names.storeUsed)),
        limit: set(gauge(Names.storeLimit)),
        sentAgain: (host) => {
          const series = shown.get(host)
          if (series === undefined) early.set(host, (early.get(host) ?? 0) + 1)
          else series.sentAgain.updateUnsafe(1, context)
        },
        backlogs: (byHost) => {
          for (const [host, series] of shown) {
            if (byHost.has(host)) continue
            for (const metric of [series.pending, series.oldestAge, series.dead]) Metric.removeUnsafe(metric, context)
            Metric.removeUnsafe(series.sentAgain, context)
            shown.delete(host)
          }
          for (const [host, { dead, oldestAge, pending }] of byHost) {
            let series = shown.get(host)
            if (series === undefined) {
              shown.set(host, series = seriesOf(host))
              series.sentAgain.updateUnsafe(early.get(host) ?? 0, context)
            }
            series.pending.updateUnsafe(pending, context)
            series.oldestAge.updateUnsafe(oldestAge, context)
            series.dead.updateUnsafe(dead, context)
          }
          early = new Map()
        }
      })
    })
  )
}

const gauge = ({ help, name }: Names.MetricName, attributes: Record<string, string> = {}) =>
  Metric.gauge(name, { description: help, attributes })
