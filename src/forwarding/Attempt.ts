/**
 * One delivery to one backend. An attempt waits for a permit, sends a request, reads the outcome off the answer, and
 * retries what surely did not arrive.
 *
 * **Details**
 *
 * A permit is given back when undici has let go of the request, not when a deadline fires: until then the request costs
 * the backend a connection and us memory. Permits and waiting are in `BackendLane`, a single request in
 * `BackendRequest`. All three work in callbacks, and the README beside them says why.
 */
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import type { AttemptTrace, Delivery } from "../domain/Delivery.ts"
import * as Outcome from "../domain/Outcome.ts"
import type { CancelTimer } from "../runtime/Timers.ts"
import type { Lane, Waiting } from "./BackendLane.ts"
import { BackendRequest, type RequestOwner, type RequestResult } from "./BackendRequest.ts"

/** Learns of the outcome and of the end of an attempt. */
export interface AttemptObserver {
  /** The outcome is known. Called once. */
  readonly settled: (report: AttemptReport, backend: Backend) => void
  /**
   * Nothing of the attempt is under way any more, and its memory can be given back. Called once, never before
   * `settled`.
   */
  readonly ended: (backend: Backend) => void
}

/** The retries of an attempt. */
export interface RetryPolicy {
  /** How often a request that surely did not arrive is sent again. */
  readonly retries: number
  readonly retried: (backend: Backend) => void
}

const firstRetryDelay = 500

export class Attempt implements Waiting, RequestOwner {
  readonly #delivery: Delivery
  readonly #trace: AttemptTrace | undefined
  readonly #lane: Lane
  readonly #retry: RetryPolicy
  readonly #deadline: number
  readonly #observer: AttemptObserver
  readonly #startedAt: number
  /** The requests that undici has not let go of. */
  readonly #underWay: Array<BackendRequest> = []
  /** How many requests were sent. */
  #requests = 0
  #settled = false
  #ended = false
  #behindBytes: number | undefined
  #behindSince = 0
  #last: RequestResult | undefined
  #cancelRetry: CancelTimer | undefined

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

  /** Called by the lane, with a permit that the request gives back. */
  send(): void {
    this.#requests += 1
    if (this.#requests > 1) this.#retry.retried(this.#lane.backend)
    const sent = new BackendRequest(this, this.#lane)
    this.#underWay.push(sent)
    sent.dispatch(this.#delivery, this.#trace?.headers ?? this.#delivery.headers)
  }

  /**
   * Another backend has an outcome. Unless this attempt has one too, it is behind from here on: the delivery's `bytes`
   * of memory are held for it.
   */
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

  /** Its time is up: settles with the result so far, and aborts the requests that are under way. */
  expire(reason: string): void {
    if (!this.#settled) {
      const pending = this.#underWay.find((sent) => !sent.isDecided)
      this.#settle(
        pending?.cutOff(reason) ?? this.#last ?? { outcome: "unreachable", error: "no permit in time" }
      )
    }
    // Aborting a request may take it out of the list.
    for (const sent of this.#underWay.slice()) sent.abort()
  }

  /** A request has a result. */
  decided(result: RequestResult): void {
    if (this.#settled) return
    this.#last = result
    const delay = this.#retryDelay(result)
    if (delay === undefined) return this.#settle(result)
    this.#cancelRetry = this.#lane.acquireAfter(this, delay)
  }

  /** undici has let go of a request. */
  letGo(sent: BackendRequest): void {
    if (this.#underWay.at(-1) === sent) this.#underWay.pop()
    else this.#underWay.splice(this.#underWay.indexOf(sent), 1)
    this.#lane.giveBack()
    this.#endIfDone()
  }

  #retryDelay(result: RequestResult): number | undefined {
    if (this.#requests > this.#retry.retries || !Outcome.isRetryable(result.outcome, result.status)) return undefined
    // Full jitter on the upper half, so that backends that failed together are not tried again together.
    const backoff = firstRetryDelay * 2 ** (this.#requests - 1) * (0.5 + Math.random() / 2)
    const delay = Math.max(backoff, result.retryAfter ?? 0)
    return this.#lane.timers.now() + delay < this.#deadline ? delay : undefined
  }

  #settle(result: RequestResult): void {
    if (this.#settled) return
    this.#settled = true
    this.#cancelRetry?.()
    this.#lane.leave(this)
    if (this.#behindBytes !== undefined) this.#lane.notBehind(this.#behindBytes)
    const report: AttemptReport = {
      outcome: result.outcome,
      status: result.status,
      error: result.error,
      answer: result.answer,
      latency: result.latency ?? this.#lane.timers.now() - this.#startedAt,
      requests: this.#requests,
      retryAfter: result.retryAfter
    }
    this.#trace?.end(report)
    this.#observer.settled(report, this.#lane.backend)
    this.#endIfDone()
  }

  #endIfDone(): void {
    if (!this.#settled || this.#underWay.length > 0 || this.#ended) return
    this.#ended = true
    this.#observer.ended(this.#lane.backend)
  }
}
