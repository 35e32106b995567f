/** The metrics of the store and its backlogs. They are there only in durable mode. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Names from "../observability/metrics/Names.ts"
import { type Recorder, recordOf, Series } from "../observability/metrics/Series.ts"

/** Why a delivery was forwarded without the store. */
const storeFallbacks = ["unavailable", "timeout", "full", "unstorable"] as const
export type StoreFallback = typeof storeFallbacks[number]

/** Why an outcome is not kept. */
const outcomeDrops = ["overflow", "unstorable"] as const
export type OutcomeDrop = typeof outcomeDrops[number]

/** The backlogs of a host's backends. */
export interface HostBacklog {
  readonly pending: number
  readonly dead: number
  /** Seconds. */
  readonly oldestAge: number
}

export class StoreMetrics extends Context.Service<StoreMetrics, {
  readonly fellBack: (reason: StoreFallback) => void
  readonly droppedOutcome: (reason: OutcomeDrop) => void
  /** Prepares the count of an operation's failures, so that it begins with 0. */
  readonly watched: (operation: string) => void
  readonly failed: (operation: string) => void
  /** The duration of one transaction, in milliseconds. */
  readonly wrote: (duration: number) => void
  readonly up: (isUp: boolean) => void
  readonly used: (bytes: number) => void
  readonly limit: (bytes: number) => void
  /** An attempt was made again from the store. `host` is the backend's name. */
  readonly sentAgain: (host: string) => void
  /** The backlogs of all hosts. A host that is not among them has its series removed, and is not counted any more. */
  readonly backlogs: (byHost: ReadonlyMap<string, HostBacklog>) => void
}>()("sprayproxy/durable/StoreMetrics") {
  static readonly layer = Layer.effect(
    StoreMetrics,
    Effect.gen(function*() {
      const series = yield* Series.make
      const fallbacks = recordOf(storeFallbacks, (reason) => series.counter(Names.storeFallbacks, { reason }))
      const drops = recordOf(outcomeDrops, (reason) => series.counter(Names.storeOutcomesDropped, { reason }))
      const failures = new Map<string, Recorder>()
      const up = series.gauge(Names.storeUp)
      const writes = series.histogram(
        Names.storeWriteDuration,
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2]
      )

      const seriesOf = (host: string) => {
        const own = series.removable()
        return {
          pending: own.series.gauge(Names.backlogDeliveries, { host }),
          oldestAge: own.series.gauge(Names.backlogOldestAge, { host }),
          dead: own.series.gauge(Names.deadDeliveries, { host }),
          sentAgain: own.series.counter(Names.redeliveries, { host }),
          remove: own.remove
        }
      }
      const shown = new Map<string, ReturnType<typeof seriesOf>>()
      /** The counts of hosts that are not shown yet. */
      let early = new Map<string, number>()

      return StoreMetrics.of({
        fellBack: (reason) => fallbacks[reason](1),
        droppedOutcome: (reason) => drops[reason](1),
        watched: (operation) => {
          failures.set(operation, series.counter(Names.storeFailures, { operation }))
        },
        failed: (operation) => failures.get(operation)?.(1),
        wrote: (duration) => writes(duration / 1_000),
        up: (isUp) => up(isUp ? 1 : 0),
        used: series.gauge(Names.storeUsed),
        limit: series.gauge(Names.storeLimit),
        sentAgain: (host) => {
          const own = shown.get(host)
          if (own === undefined) early.set(host, (early.get(host) ?? 0) + 1)
          else own.sentAgain(1)
        },
        backlogs: (byHost) => {
          for (const [host, own] of shown) {
            if (byHost.has(host)) continue
            own.remove()
            shown.delete(host)
          }
          for (const [host, { dead, oldestAge, pending }] of byHost) {
            let own = shown.get(host)
            if (own === undefined) {
              shown.set(host, own = seriesOf(host))
              own.sentAgain(early.get(host) ?? 0)
            }
            own.pending(pending)
            own.oldestAge(oldestAge)
            own.dead(dead)
          }
          early = new Map()
        }
      })
    })
  )
}
