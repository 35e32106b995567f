/**
 * Forwards one delivery to one backend: waits for a permit, sends it, reads the outcome off the answer, and sends again
 * what surely did not arrive.
 *
 * **Details**
 *
 * A permit is given back when undici has let go of the request, not when a deadline fires: until then it costs the backend
 * a connection and us memory. Permits and waiting are in `BackendLane`, a single request in `BackendRequest`.
 *
 * **Gotchas**
 *
 * Works in callbacks: a fiber for each backend would cost 0.1 to 0.3 times what a bare proxy does for the whole delivery.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { BackendConnections } from "../backends/connections/Connections.ts"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import type { AttemptTrace, Delivery } from "../domain/Delivery.ts"
import * as Outcome from "../domain/Outcome.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { Lane, type LaneLimits, type Waiting } from "./BackendLane.ts"
import { BackendRequest, type RequestOwner, type RequestResult } from "./BackendRequest.ts"

export interface AttemptObserver {
  /** The outcome is known. Called once. */
  readonly settled: (report: AttemptReport, backend: Backend) => void
  /** Nothing of the attempt is under way any more, its memory can be given back. Called once, never before `settled`. */
  readonly released: (backend: Backend) => void
}

export interface Attempt {
  readonly start: () => void
  /** Another backend has had the delivery: unless it has ended, this attempt holds its `bytes` of memory from here on. */
  readonly behind: (bytes: number) => void
  /** Time is up: settles as what it has come to, and aborts what is under way. */
  readonly expire: (reason: string) => void
}

export class Forwarder extends Context.Service<Forwarder, {
  /** An attempt, not yet started, which its caller will call `expire` on at `deadline` (on `Timers.now`). */
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
          return new ForwardAttempt(lane, delivery, deadline, observer, retry)
        }
      })
    })
  )
}

interface RetryPolicy {
  /** How often a request that surely did not arrive is sent again. */
  readonly retries: number
  readonly retried: (backend: Backend) => void
}

const firstRetryDelay = 500

class ForwardAttempt implements Attempt, Waiting, RequestOwner {
  readonly #delivery: Delivery
  readonly #trace: AttemptTrace | undefined
  readonly #lane: Lane
  readonly #retry: RetryPolicy
  readonly #deadline: number
  readonly #observer: AttemptObserver
  readonly #startedAt: number
  readonly #tries: Array<BackendRequest> = []
  #tried = 0
  #settled = false
  #released = false
  #behindBytes: number | undefined
  #behindSince = 0
  #last: RequestResult | undefined
  #cancelRetry = () => {}

  constructor(lane: Lane, delivery: Delivery, deadline: number, observer: AttemptObserver, retry: RetryPolicy) {
    this.#lane = lane
    this.#retry = retry
    this.#delivery = delivery
    this.#deadline = deadline
    this.#observer = observer
    this.#startedAt = lane.timers.now()
    this.#trace = delivery.trace?.attempt(lane.backend, delivery)
  }

  start(): void {
    this.#lane.acquire(this)
  }

  /** Called by the lane, with a permit that the try gives back. */
  send(): void {
    this.#tried += 1
    if (this.#tried > 1) this.#retry.retried(this.#lane.backend)
    const sent = new BackendRequest(this, this.#lane)
    this.#tries.push(sent)
    sent.dispatch(this.#delivery, this.#trace?.headers ?? this.#delivery.headers)
  }

  behind(bytes: number): void {
    if (this.#settled || this.#behindBytes !== undefined) return
    this.#behindBytes = bytes
    this.#behindSince = this.#lane.timers.now()
    this.#lane.behind(bytes)
  }

  isBehindSince(time: number): boolean {
    return this.#behindBytes !== undefined && this.#behindSince <= time
  }

  giveWay(): void {
    this.#settle(
      this.#last ?? { outcome: "unreachable", error: "gave way: this backend is behind with too many deliveries" }
    )
  }

  expire(reason: string): void {
    if (!this.#settled) {
      const pending = this.#tries.find((sent) => !sent.isDecided)
      this.#settle(
        pending?.cutOff(reason) ?? this.#last ?? { outcome: "unreachable", error: "no permit in time" }
      )
    }
    // An abort may take its try out of the list.
    for (const sent of this.#tries.slice()) sent.abort()
  }

  /** A try has come to something. */
  decided(result: RequestResult): void {
    if (this.#settled) return
    this.#last = result
    const delay = this.#retryDelay(result)
    if (delay === undefined) return this.#settle(result)
    this.#cancelRetry = this.#lane.acquireAfter(this, delay)
  }

  /** undici has let go of a try. */
  letGo(sent: BackendRequest): void {
    this.#tries.splice(this.#tries.indexOf(sent), 1)
    this.#lane.release()
    this.#releaseIfDone()
  }

  #retryDelay(result: RequestResult): number | undefined {
    if (this.#tried > this.#retry.retries || !Outcome.isRetryable(result.outcome, result.status)) return undefined
    // Full jitter on the upper half: backends that failed together are not tried again together.
    const backoff = firstRetryDelay * 2 ** (this.#tried - 1) * (0.5 + Math.random() / 2)
    const delay = Math.max(backoff, result.retryAfter ?? 0)
    return this.#lane.timers.now() + delay < this.#deadline ? delay : undefined
  }

  #settle(result: RequestResult): void {
    if (this.#settled) return
    this.#settled = true
    this.#cancelRetry()
    this.#lane.leave(this)
    if (this.#behindBytes !== undefined) this.#lane.notBehind(this.#behindBytes)
    const report: AttemptReport = {
      outcome: result.outcome,
      status: result.status,
      error: result.error,
      answer: result.answer,
      latency: result.latency ?? this.#lane.timers.now() - this.#startedAt,
      tries: this.#tried,
      retryAfter: result.retryAfter
    }
    this.#trace?.end(report)
    this.#observer.settled(report, this.#lane.backend)
    this.#releaseIfDone()
  }

  #releaseIfDone(): void {
    if (!this.#settled || this.#tries.length > 0 || this.#released) return
    this.#released = true
    this.#observer.released(this.#lane.backend)
  }
}
