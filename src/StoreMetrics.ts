/** What is counted of the store and its backlogs. Only there in durable mode. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Names from "./MetricNames.ts"

/** Why a delivery was forwarded without the store. */
const storeFallbacks = ["unavailable", "timeout", "full"] as const
export type StoreFallback = typeof storeFallbacks[number]

/** What a host's backends are still to get. */
export interface HostBacklog {
  readonly pending: number
  readonly dead: number
  /** Seconds. */
  readonly oldestAge: number
}

export class StoreMetrics extends Context.Service<StoreMetrics, {
  readonly fellBack: (reason: StoreFallback) => void
  /** Milliseconds of one transaction. */
  readonly wrote: (duration: number) => void
  readonly up: (isUp: boolean) => void
  readonly used: (bytes: number) => void
  readonly limit: (bytes: number) => void
  /** Attempts made again from the store; `host` as logs and metrics name a backend. */
  readonly sentAgain: (host: string) => void
  /** All of them; a host that is not among them has its series removed. */
  readonly backlogs: (byHost: ReadonlyMap<string, HostBacklog>) => void
}>()("sprayproxy/StoreMetrics") {
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
      const writes = Metric.histogram(Names.storeWriteDuration.name, {
        description: Names.storeWriteDuration.help,
        boundaries: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2]
      })
      writes.valueUnsafe(context)
      const up = set(gauge(Names.storeUp))

      const sentAgain = new Map<string, () => void>()
      const gaugesOf = (host: string) =>
        [Names.backlogDeliveries, Names.backlogOldestAge, Names.deadDeliveries].map((name) => gauge(name, { host }))
      const shown = new Map<string, ReturnType<typeof gaugesOf>>()

      return StoreMetrics.of({
        fellBack: (reason) => fallbacks[reason]!(),
        wrote: (duration) => writes.updateUnsafe(duration / 1_000, context),
        up: (isUp) => up(isUp ? 1 : 0),
        used: set(gauge(Names.storeUsed)),
        limit: set(gauge(Names.storeLimit)),
        sentAgain: (host) => {
          let count = sentAgain.get(host)
          if (count === undefined) sentAgain.set(host, count = counter(Names.redeliveries, { host }))
          count()
        },
        backlogs: (byHost) => {
          for (const [host, gauges] of shown) {
            if (byHost.has(host)) continue
            for (const metric of gauges) Metric.removeUnsafe(metric, context)
            shown.delete(host)
          }
          for (const [host, values] of byHost) {
            let gauges = shown.get(host)
            if (gauges === undefined) shown.set(host, gauges = gaugesOf(host))
            gauges[0]!.updateUnsafe(values.pending, context)
            gauges[1]!.updateUnsafe(values.oldestAge, context)
            gauges[2]!.updateUnsafe(values.dead, context)
          }
        }
      })
    })
  )
}

const gauge = ({ help, name }: Names.MetricName, attributes: Record<string, string> = {}) =>
  Metric.gauge(name, { description: help, attributes })
