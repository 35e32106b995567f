/**
 * What is counted while deliveries pass, in Effect's metrics.
 *
 * **Details**
 *
 * Recording is synchronous, because attempts end in callbacks. A series is built once, when its backend first shows up
 * (an update of a ready one costs 55 ns, `Metric.withAttributes` 1,455), and starts at 0, so that it is there before its
 * first event. A backend's series go when it has left the registry and its last attempt has ended: a later update would
 * bring them back.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type { Backend } from "./Backend.ts"
import type { AttemptReport } from "./Forwarder.ts"
import * as Names from "./MetricNames.ts"
import { type Outcome, outcomes } from "./Outcome.ts"

/** What a request was answered with, or `gone` if nobody waited for it. */
export type Answer = "proxied" | "accepted" | "failed" | "refused" | "gone"

export type RegistryChange = "registered" | "renewed" | "unregistered" | "expired"

export class Metrics extends Context.Service<Metrics, {
  readonly inbound: () => void
  /** `reason` is one of a small closed set, `none` unless refused; `duration` in milliseconds since receipt. */
  readonly answered: (answer: Answer, reason: string, duration: number) => void
  /** An attempt begins; its series live at least until `released`. */
  readonly began: (backend: Backend) => void
  readonly settled: (backend: Backend, report: AttemptReport) => void
  readonly released: (backend: Backend) => void
  readonly retried: (backend: Backend) => void
  readonly added: (backend: Backend) => void
  readonly removed: (backend: Backend) => void
  readonly registryChanged: (change: RegistryChange) => void
  readonly logLinesDropped: (count: number) => void
}>()("sprayproxy/Metrics") {
  static readonly layer = Layer.effect(
    Metrics,
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const clock = yield* Clock.Clock
      const series = new Series(context)
      const inbound = series.counter(Names.inboundRequests)
      const responseTime = series.histogram(Names.responseTime, originalBuckets)
      const deliveryDuration = series.histogram(Names.deliveryDuration, buckets)
      const dropped = series.counter(Names.logLinesDropped)
      const attemptsInFlight = series.gauge(Names.attemptsInFlight)
      const answers = new Map<string, Recorder>()
      const answerSeries = (answer: Answer, reason: string) => {
        const key = `${answer} ${reason}`
        let recorder = answers.get(key)
        if (recorder === undefined) answers.set(key, recorder = series.counter(Names.deliveries, { answer, reason }))
        return recorder
      }
      for (const answer of ["proxied", "accepted", "failed", "gone"] as const) answerSeries(answer, "none")
      const changes = {
        registered: series.counter(Names.registryChanges, { change: "registered" }),
        renewed: series.counter(Names.registryChanges, { change: "renewed" }),
        unregistered: series.counter(Names.registryChanges, { change: "unregistered" }),
        expired: series.counter(Names.registryChanges, { change: "expired" })
      }
      let inFlight = 0

      // By host, the label: two backends that differ in their paths alone share their series.
      const hosts = new Map<string, HostSeries>()
      const seriesOf = ({ host }: Backend) => {
        let found = hosts.get(host)
        if (found === undefined) hosts.set(host, found = new HostSeries(series, host))
        return found
      }
      const leave = (backend: Backend) => {
        const found = seriesOf(backend)
        found.users -= 1
        if (found.users > 0) return
        found.remove()
        hosts.delete(backend.host)
      }

      return Metrics.of({
        inbound: () => inbound(1),
        answered: (answer, reason, duration) => {
          answerSeries(answer, reason)(1)
          deliveryDuration(duration / 1_000)
        },
        began: (backend) => {
          seriesOf(backend).users += 1
          attemptsInFlight(inFlight += 1)
        },
        settled: (backend, report) => {
          seriesOf(backend).settled(report, clock)
          if (report.status !== undefined) responseTime(report.latency / 1_000)
        },
        released: (backend) => {
          leave(backend)
          attemptsInFlight(inFlight -= 1)
        },
        retried: (backend) => seriesOf(backend).retries(1),
        added: (backend) => {
          seriesOf(backend).users += 1
        },
        removed: leave,
        registryChanged: (change) => changes[change](1),
        logLinesDropped: (count) => dropped(count)
      })
    })
  )
}

type Recorder = (value: number) => void

/** The original's. */
const originalBuckets = [0.005, 0.05, 0.5, 5]

/** Seconds; the reply deadline (9) and the forwarding timeout (15) are buckets of their own. */
const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 9, 15]

class Series {
  readonly context: Context.Context<never>

  constructor(context: Context.Context<never>) {
    this.context = context
  }

  counter({ help, name }: typeof Names.deliveries, attributes: Record<string, string> = {}): Recorder {
    return this.#recorder(Metric.counter(name, { description: help, incremental: true, attributes }), 0)
  }

  gauge({ help, name }: typeof Names.deliveries, attributes: Record<string, string> = {}): Recorder {
    return this.#recorder(Metric.gauge(name, { description: help, attributes }), 0)
  }

  histogram(
    { help, name }: typeof Names.deliveries,
    boundaries: ReadonlyArray<number>,
    attributes: Record<string, string> = {}
  ): Recorder {
    const histogram = Metric.histogram(name, { description: help, boundaries, attributes })
    histogram.valueUnsafe(this.context)
    return this.#recorder(histogram, undefined)
  }

  #recorder<State>(metric: Metric.Metric<number, State>, initial: number | undefined): Recorder {
    if (initial !== undefined) metric.updateUnsafe(initial, this.context)
    this.#onRemove?.push(() => Metric.removeUnsafe(metric, this.context))
    return (value) => metric.updateUnsafe(value, this.context)
  }

  #onRemove: Array<() => void> | undefined

  /** Makes series that can be removed together. */
  removable(): { readonly series: Series; readonly remove: () => void } {
    const series = new Series(this.context)
    const removals: Array<() => void> = series.#onRemove = []
    return { series, remove: () => removals.forEach((remove) => remove()) }
  }
}

/** What one backend is counted in. */
class HostSeries {
  /** Registrations and attempts that need these series. */
  users = 0
  readonly retries: Recorder
  readonly remove: () => void
  readonly #forwarded: Readonly<Record<string, Recorder>>
  readonly #attempts: Readonly<Record<Outcome, Recorder>>
  readonly #duration: Recorder
  readonly #lastSuccess: Recorder

  constructor(all: Series, host: string) {
    const { remove, series } = all.removable()
    this.remove = remove
    this.retries = series.counter(Names.retries, { host })
    this.#forwarded = Object.fromEntries(
      ["none", "http-error", "non-http-error"].map((error) => [
        error,
        series.counter(Names.forwardedRequests, { host, error })
      ])
    )
    this.#attempts = Object.fromEntries(
      outcomes.map((outcome) => [outcome, series.counter(Names.attempts, { host, outcome })])
    ) as Record<Outcome, Recorder>
    this.#duration = series.histogram(Names.attemptDuration, buckets, { host })
    this.#lastSuccess = series.gauge(Names.lastSuccess, { host })
  }

  settled({ latency, outcome, status }: AttemptReport, clock: Clock.Clock): void {
    this.#attempts[outcome](1)
    this.#forwarded[outcome === "delivered" ? "none" : status === undefined ? "non-http-error" : "http-error"]!(1)
    this.#duration(latency / 1_000)
    if (outcome === "delivered" || outcome === "rejected") this.#lastSuccess(clock.currentTimeMillisUnsafe() / 1_000)
  }
}
