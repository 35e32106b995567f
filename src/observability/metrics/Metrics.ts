/**
 * The metrics that are written while deliveries pass, as Effect's metrics.
 *
 * **Details**
 *
 * Recording is synchronous, because attempts end in callbacks, and keeps the rules of `forwarding/README.md`. A series is
 * built once, when its backend first shows up: an update of a ready series costs 55 ns, `Metric.withAttributes` 1,455. It
 * starts at 0, so that it is there before its first event. The series of a backend are removed when the backend has left
 * the registry and its last attempt has ended, because a later update would bring them back.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { AttemptReport } from "../../domain/AttemptReport.ts"
import type { Backend } from "../../domain/Backend.ts"
import { isSuccess, type Outcome, outcomes } from "../../domain/Outcome.ts"
import * as Names from "./Names.ts"
import { type Recorder, recordOf, Series } from "./Series.ts"

/** How a request was answered, or `gone` if nobody waited for the answer. */
const answers = ["proxied", "accepted", "forwarding", "failed", "unmatched", "refused", "gone"] as const
export type Answer = typeof answers[number]

/** Why a request was refused. The set is closed, because the reason is a label: it never has a sender's words. */
const refusalReasons = [
  "backends unknown",
  "body cut off",
  "body too large",
  "loop",
  "no secret",
  "overloaded",
  "sender too slow",
  "signature malformed",
  "signature mismatch",
  "signature missing",
  "transfer coding unknown"
] as const
export type RefusalReason = typeof refusalReasons[number]

const registryChanges = ["registered", "renewed", "unregistered", "expired", "dead"] as const
export type RegistryChange = typeof registryChanges[number]

export class Metrics extends Context.Service<Metrics, {
  readonly inbound: () => void
  /** `duration` in milliseconds since receipt. */
  readonly answered: (answer: Exclude<Answer, "refused">, duration: number) => void
  readonly refused: (reason: RefusalReason, duration: number) => void
  /** An attempt begins. The series of its backend live at least until `ended`. */
  readonly began: (backend: Backend) => void
  readonly settled: (backend: Backend, report: AttemptReport) => void
  readonly ended: (backend: Backend) => void
  readonly retried: (backend: Backend) => void
  readonly added: (backend: Backend) => void
  readonly removed: (backend: Backend) => void
  readonly registryChanged: (change: RegistryChange) => void
}>()("sprayproxy/observability/metrics/Metrics") {
  static readonly layer = Layer.effect(
    Metrics,
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const series = yield* Series.make
      const inbound = series.counter(Names.inboundRequests)
      const responseTime = series.histogram(Names.responseTime, originalBuckets)
      const attemptsInFlight = series.gauge(Names.attemptsInFlight)
      const durations = recordOf(
        answers,
        (answer) => series.histogram(Names.deliveryDuration, buckets, { answer })
      )
      const answered = recordOf(
        answers.filter((answer) => answer !== "refused"),
        (answer) => series.counter(Names.deliveries, { answer, reason: "none" })
      )
      const refused = recordOf(
        refusalReasons,
        (reason) => series.counter(Names.deliveries, { answer: "refused", reason })
      )
      const changes = recordOf(registryChanges, (change) => series.counter(Names.registryChanges, { change }))
      let inFlight = 0

      // By name, which is the label: two backends that differ only in their schemes share their series.
      const byName = new Map<string, BackendSeries>()
      const join = ({ name }: Backend) => {
        let found = byName.get(name)
        if (found === undefined) byName.set(name, found = new BackendSeries(series, name))
        found.users += 1
      }
      const leave = ({ name }: Backend) => {
        const found = byName.get(name)
        if (found === undefined) return
        found.users -= 1
        if (found.users > 0) return
        found.remove()
        byName.delete(name)
      }

      return Metrics.of({
        inbound: () => inbound(1),
        answered: (answer, duration) => {
          answered[answer](1)
          durations[answer](duration / 1_000)
        },
        refused: (reason, duration) => {
          refused[reason](1)
          durations.refused(duration / 1_000)
        },
        began: (backend) => {
          join(backend)
          attemptsInFlight(inFlight += 1)
        },
        settled: (backend, report) => {
          byName.get(backend.name)?.settled(report, clock)
          if (report.status !== undefined) responseTime(report.latency / 1_000)
        },
        ended: (backend) => {
          leave(backend)
          attemptsInFlight(inFlight -= 1)
        },
        retried: (backend) => byName.get(backend.name)?.retries(1),
        added: join,
        removed: leave,
        registryChanged: (change) => changes[change](1)
      })
    })
  )
}

/** The values of the label `error`, as the original sprayproxy has them. */
const errorOf = {
  "delivered": "none",
  "rejected": "http-error",
  "failed": "http-error",
  "unreachable": "non-http-error",
  "broken off": "non-http-error",
  "timed out": "non-http-error"
} as const satisfies Record<Outcome, string>

/** Seconds, as the original sprayproxy has them. */
const originalBuckets = [0.005, 0.05, 0.5, 5]

/** Seconds. The default reply deadline (9) and the default forwarding timeout (15) are buckets of their own. */
const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 9, 15]

/** The series of one backend. */
class BackendSeries {
  /** How many registrations and attempts need these series. */
  users = 0
  readonly retries: Recorder
  readonly remove: () => void
  readonly #forwarded: Readonly<Record<typeof errorOf[Outcome], Recorder>>
  readonly #attempts: Readonly<Record<Outcome, Recorder>>
  readonly #duration: Recorder
  readonly #lastSuccess: Recorder

  constructor(all: Series, host: string) {
    const { remove, series } = all.removable()
    this.remove = remove
    this.retries = series.counter(Names.retries, { host })
    this.#forwarded = recordOf(
      ["none", "http-error", "non-http-error"],
      (error) => series.counter(Names.forwardedRequests, { host, error })
    )
    this.#attempts = recordOf(outcomes, (outcome) => series.counter(Names.attempts, { host, outcome }))
    this.#duration = series.histogram(Names.attemptDuration, buckets, { host })
    this.#lastSuccess = series.gauge(Names.lastSuccess, { host })
  }

  settled({ latency, outcome }: AttemptReport, clock: Clock.Clock): void {
    this.#attempts[outcome](1)
    this.#forwarded[errorOf[outcome]](1)
    this.#duration(latency / 1_000)
    if (isSuccess(outcome)) this.#lastSuccess(clock.currentTimeMillisUnsafe() / 1_000)
  }
}
