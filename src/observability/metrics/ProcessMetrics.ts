/**
 * Metrics of the process itself: its version, its memory for bodies, and what Prometheus's client libraries report of
 * every process.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readdirSync, readFileSync } from "node:fs"
import { constants, monitorEventLoopDelay, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks"
import packageJson from "../../../package.json" with { type: "json" }
import { MemoryBudget } from "../../runtime/MemoryBudget.ts"
import * as Names from "./Names.ts"
import { observableCounter, observableGauge, Series } from "./Series.ts"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const budget = yield* MemoryBudget
  yield* observableGauge(Names.buildInfo, () => 1, { version: packageJson.version, node_version: process.version })
  yield* observableGauge(Names.bodyMemoryUsed, () => budget.state().used)
  yield* observableGauge(Names.bodyMemoryBudget, () => budget.state().capacity)
  yield* observableGauge(Names.bodyMemoryWaiting, () => budget.state().waiting)
  yield* observableCounter(Names.cpuUser, () => process.cpuUsage().user / 1e6)
  yield* observableCounter(Names.cpuSystem, () => process.cpuUsage().system / 1e6)
  yield* observableCounter(Names.cpu, () => {
    const { system, user } = process.cpuUsage()
    return (user + system) / 1e6
  })
  yield* observableGauge(Names.residentMemory, () => process.memoryUsage.rss())
  yield* observableGauge(Names.startTime, () => startedAt)
  yield* observableGauge(Names.heapTotal, () => process.memoryUsage().heapTotal)
  yield* observableGauge(Names.heapUsed, () => process.memoryUsage().heapUsed)
  yield* observableGauge(Names.externalMemory, () => process.memoryUsage().external)
  // Linux only; elsewhere they are absent.
  const limit = maxFds()
  if (limit !== undefined) {
    yield* observableGauge(Names.maxFds, () => limit)
    yield* observableGauge(Names.openFds, () => openFds(limit))
  }
  yield* eventLoop
  yield* garbageCollections
}))

/** Listing the directory takes a descriptor. If none is left, all of them are in use. */
const openFds = (limit: number): number => {
  try {
    return readdirSync("/proc/self/fd").length
  } catch {
    return limit
  }
}

const startedAt = Math.floor(Date.now() / 1_000 - process.uptime())

const maxFds = (): number | undefined => {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]
    return limit === undefined ? undefined : Number(limit)
  } catch {
    return undefined
  }
}

/** Each scrape reads the two gauges one after the other. The second reading starts the next interval. */
const eventLoop = Effect.gen(function*() {
  const delay = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution: resolutionMillis })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  )
  yield* observableGauge(Names.eventLoopLag, () => lag(delay.mean))
  yield* observableGauge(Names.eventLoopLagP99, () => {
    const p99 = delay.count === 0 ? 0 : lag(delay.percentile(99))
    delay.reset()
    return p99
  })
})

const resolutionMillis = 10

/** The histogram holds the intervals of a timer. The part that exceeds the timer's period is the delay. */
const lag = (nanos: number) => Number.isFinite(nanos) ? Math.max(0, nanos / 1e9 - resolutionMillis / 1e3) : 0

/** Node's types leave `detail` out. */
type GcEntry = PerformanceEntry & { readonly detail: { readonly kind: number } }

const garbageCollections = Effect.gen(function*() {
  const series = yield* Series.make
  const boundaries = [0.001, 0.01, 0.1, 1, 2, 5]
  const kinds = new Map([
    [constants.NODE_PERFORMANCE_GC_MINOR, "minor"],
    [constants.NODE_PERFORMANCE_GC_MAJOR, "major"],
    [constants.NODE_PERFORMANCE_GC_INCREMENTAL, "incremental"],
    [constants.NODE_PERFORMANCE_GC_WEAKCB, "weakcb"]
  ].map(([kind, label]) => [kind, series.histogram(Names.gcDuration, boundaries, { kind: String(label) })]))
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const observer = new PerformanceObserver((list) => {
        for (const { detail, duration } of list.getEntries() as Array<GcEntry>) {
          kinds.get(detail.kind)?.(duration / 1_000)
        }
      })
      observer.observe({ entryTypes: ["gc"] })
      return observer
    }),
    (observer) => Effect.sync(() => observer.disconnect())
  )
})
