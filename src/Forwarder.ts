/**
 * Forwards one delivery to one backend: waits for a permit, sends it, reads the outcome off the answer, and sends again
 * what surely did not arrive.
 *
 * **Details**
 *
 * - A permit is given back when undici has let go of the request, not when a deadline fires: until then it costs the
 *   backend a connection and us memory.
 * - The status line decides the outcome. The rest of the answer is read so that the connection can be kept, up to 64 KiB.
 * - A backend that is behind the others with many deliveries gives way, so that its hanging can't use up their memory: its
 *   oldest attempts that still wait, for a permit or for a retry, end. A backend that is merely slow goes on draining.
 *
 * **Gotchas**
 *
 * Works in callbacks: a fiber for each backend of a delivery would cost as much again as the forwarding itself.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Dispatcher } from "undici"
import type { Backend } from "./Backend.ts"
import { BackendConnections } from "./BackendConnections.ts"
import type { Delivery } from "./Delivery.ts"
import { Metrics } from "./Metrics.ts"
import * as Outcome from "./Outcome.ts"
import { Settings } from "./Settings.ts"
import { Timers } from "./Timers.ts"
import type { AttemptTrace } from "./Tracing.ts"

/** How an attempt ended. */
export interface AttemptReport {
  readonly outcome: Outcome.Outcome
  /** The status of the last answer. */
  readonly status: number | undefined
  /** What went wrong, for the logs: an error code or a few words. */
  readonly error: string | undefined
  /** The first kB of an answer that is not 2xx. */
  readonly answer: string | undefined
  /** Milliseconds from the last request to its status line, or to the end of the attempt where none came. */
  readonly latency: number
  /** Requests that were sent, or tried to be. */
  readonly tries: number
}

export interface AttemptObserver {
  /** The outcome is known. Called once. */
  readonly settled: (report: AttemptReport) => void
  /** Nothing of the attempt is under way any more, its memory can be given back. Called once, never before `settled`. */
  readonly released: () => void
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
}>()("sprayproxy/Forwarder") {
  static readonly layer = Layer.effect(
    Forwarder,
    Effect.gen(function*() {
      const settings = yield* Settings
      const connections = yield* BackendConnections
      const timers = yield* Timers
      const metrics = yield* Metrics
      const lanes = new WeakMap<Backend, Lane>()
      const limits: Limits = {
        concurrency: settings.backendConcurrency,
        retries: settings.forwardingRetries,
        behindBytes: settings.bodyMemory / 4
      }
      return Forwarder.of({
        attempt: (backend, delivery, deadline, observer) => {
          let lane = lanes.get(backend)
          if (lane === undefined) {
            lane = new Lane(backend, connections.dispatcherFor(backend), limits, timers, () => metrics.retried(backend))
            lanes.set(backend, lane)
          }
          return new ForwardAttempt(lane, delivery, deadline, observer)
        }
      })
    })
  )
}

interface Limits {
  readonly concurrency: number
  readonly retries: number
  readonly behindBytes: number
}

/** With more deliveries than this, or a quarter of the memory, a backend may not be behind while it hangs. */
const behindDeliveries = 500

/** A backend hangs when it has answered nothing for this long. */
const hangingAfter = 1_000

/** What has been behind for so long gives way to newer deliveries although its backend answers now and then. */
const longestBehind = 5_000

/** Reading an answer to its end keeps the connection; beyond this a new connection is cheaper. */
const answerBytes = 64 * 1024

const loggedAnswerBytes = 1024

/** How long a status other than 2xx waits for the words that go with it into the log. */
const answerPatience = 1_000

const firstRetryDelay = 500

/** One backend's permits, and the attempts that wait for one. */
class Lane {
  readonly backend: Backend
  readonly dispatcher: Dispatcher
  readonly limits: Limits
  readonly timers: Timers["Service"]
  readonly onRetry: () => void
  #active = 0
  #behindCount = 0
  #behindBytes = 0
  #answeredAt: number
  readonly #waiting = new Set<ForwardAttempt>()
  /** Those that wait for a retry. */
  readonly #resting = new Set<ForwardAttempt>()

  constructor(
    backend: Backend,
    dispatcher: Dispatcher,
    limits: Limits,
    timers: Timers["Service"],
    onRetry: () => void
  ) {
    this.onRetry = onRetry
    this.backend = backend
    this.dispatcher = dispatcher
    this.limits = limits
    this.timers = timers
    this.#answeredAt = timers.now()
  }

  /** Sends now if there is a permit, else when one is given back. */
  acquire(attempt: ForwardAttempt): void {
    if (this.#active < this.limits.concurrency && this.#waiting.size === 0) {
      this.#active += 1
      attempt.send()
    } else {
      this.#waiting.add(attempt)
    }
  }

  /** Acquires after `delay` milliseconds. */
  acquireAfter(attempt: ForwardAttempt, delay: number): () => void {
    this.#resting.add(attempt)
    return this.timers.after(delay, () => {
      this.#resting.delete(attempt)
      this.acquire(attempt)
    })
  }

  leave(attempt: ForwardAttempt): void {
    this.#waiting.delete(attempt)
    this.#resting.delete(attempt)
  }

  answered(): void {
    this.#answeredAt = this.timers.now()
  }

  release(): void {
    if (this.#waiting.size === 0) {
      this.#active -= 1
      return
    }
    // undici has the connection free in the turn after the next: before that it would open another one.
    setImmediate(() =>
      setImmediate(() => {
        this.#active -= 1
        this.#serve()
      })
    )
  }

  /** Permits are free: the attempts that have waited longest get them. */
  #serve(): void {
    for (const next of this.#waiting) {
      if (this.#active >= this.limits.concurrency) return
      this.#waiting.delete(next)
      this.#active += 1
      next.send()
    }
  }

  behind(bytes: number): void {
    this.#behindCount += 1
    this.#behindBytes += bytes
    const now = this.timers.now()
    this.#giveWay(this.#resting, now)
    this.#giveWay(this.#waiting, now)
  }

  notBehind(bytes: number): void {
    this.#behindCount -= 1
    this.#behindBytes -= bytes
  }

  #giveWay(attempts: Iterable<ForwardAttempt>, now: number): void {
    const { behindBytes } = this.limits
    for (const oldest of attempts) {
      if (this.#behindCount <= behindDeliveries && this.#behindBytes <= behindBytes) return
      const hangs = this.#answeredAt <= now - hangingAfter || this.#behindBytes > 2 * behindBytes
      if (!oldest.isBehindSince(now - (hangs ? hangingAfter : longestBehind))) return
      oldest.giveWay()
    }
  }
}

class ForwardAttempt implements Attempt {
  readonly delivery: Delivery
  readonly trace: AttemptTrace | undefined
  readonly #lane: Lane
  readonly #deadline: number
  readonly #observer: AttemptObserver
  readonly #startedAt: number
  readonly #tries = new Set<Try>()
  #tried = 0
  #settled = false
  #released = false
  #behindBytes: number | undefined
  #behindSince = 0
  #last: TryResult | undefined
  #cancelRetry = () => {}

  constructor(lane: Lane, delivery: Delivery, deadline: number, observer: AttemptObserver) {
    this.#lane = lane
    this.delivery = delivery
    this.#deadline = deadline
    this.#observer = observer
    this.#startedAt = lane.timers.now()
    this.trace = delivery.trace?.attempt(lane.backend, delivery)
  }

  start(): void {
    this.#lane.acquire(this)
  }

  /** Called by the lane, with a permit that the try gives back. */
  send(): void {
    this.#tried += 1
    if (this.#tried > 1) this.#lane.onRetry()
    const sent = new Try(this, this.#lane)
    this.#tries.add(sent)
    sent.dispatch(this.delivery)
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
      const pending = [...this.#tries].find((sent) => !sent.isDecided)
      this.#settle(
        pending?.cutOff(reason) ?? this.#last ?? { outcome: "unreachable", error: "no permit in time" }
      )
    }
    for (const sent of this.#tries) sent.abort()
  }

  /** A try has come to something. */
  decided(result: TryResult): void {
    if (this.#settled) return
    this.#last = result
    const delay = this.#retryDelay(result)
    if (delay === undefined) return this.#settle(result)
    this.#cancelRetry = this.#lane.acquireAfter(this, delay)
  }

  /** undici has let go of a try. */
  letGo(sent: Try): void {
    this.#tries.delete(sent)
    this.#lane.release()
    this.#releaseIfDone()
  }

  #retryDelay(result: TryResult): number | undefined {
    if (this.#tried > this.#lane.limits.retries || !Outcome.isRetryable(result.outcome, result.status)) return undefined
    // Full jitter on the upper half: backends that failed together are not tried again together.
    const backoff = firstRetryDelay * 2 ** (this.#tried - 1) * (0.5 + Math.random() / 2)
    const delay = Math.max(backoff, result.retryAfter ?? 0)
    return this.#lane.timers.now() + delay < this.#deadline ? delay : undefined
  }

  #settle(result: TryResult): void {
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
      tries: this.#tried
    }
    this.trace?.end(report)
    this.#observer.settled(report)
    this.#releaseIfDone()
  }

  #releaseIfDone(): void {
    if (!this.#settled || this.#tries.size > 0 || this.#released) return
    this.#released = true
    this.#observer.released()
  }
}

interface TryResult {
  readonly outcome: Outcome.Outcome
  readonly status?: number | undefined
  readonly error?: string | undefined
  readonly answer?: string | undefined
  /** Milliseconds. */
  readonly latency?: number | undefined
  /** Milliseconds. */
  readonly retryAfter?: number | undefined
}

/** One request to a backend, from its permit until undici has let go of it. */
class Try implements Dispatcher.DispatchHandler {
  readonly #attempt: ForwardAttempt
  readonly #lane: Lane
  readonly #sentAt: number
  #controller: Dispatcher.DispatchController | undefined
  #aborted = false
  #gone = false
  #decided = false
  #status: number | undefined
  #error: string | undefined
  #latency: number | undefined
  #retryAfter: number | undefined
  #received = 0
  #answer: Buffer | undefined
  #cancelPatience = () => {}

  constructor(attempt: ForwardAttempt, lane: Lane) {
    this.#attempt = attempt
    this.#lane = lane
    this.#sentAt = lane.timers.now()
  }

  get isDecided(): boolean {
    return this.#decided
  }

  dispatch(delivery: Delivery): void {
    const { backend, dispatcher } = this.#lane
    try {
      dispatcher.dispatch({
        origin: backend.origin,
        path: backend.basePath + delivery.forwardedTarget,
        method: delivery.method as Dispatcher.HttpMethod,
        headers: this.#attempt.trace?.headers ?? delivery.headers,
        // undici takes any iterable of buffers; its types don't say so.
        body: delivery.body.toDispatch() as Buffer
      }, this)
    } catch (error) {
      this.onResponseError(undefined, error as Error)
    }
  }

  /** What it has come to when it is cut off for `reason`. */
  cutOff(reason: string): TryResult {
    if (this.#status !== undefined) return this.#result(Outcome.ofStatus(this.#status))
    return this.#controller === undefined
      ? { outcome: "unreachable", error: "no connection in time" }
      : { outcome: "timed out", error: reason }
  }

  abort(): void {
    this.#aborted = true
    this.#decided = true
    // undici can't be told before it has started the request: it is told when it does.
    this.#controller?.abort(abandoned)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#aborted) controller.abort(abandoned)
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | Array<string> | undefined>
  ): void {
    if (status < 200) return
    this.#status = status
    this.#latency = this.#lane.timers.now() - this.#sentAt
    this.#lane.answered()
    if (status < 300) return this.#decide()
    if (status < 400) this.#error = `redirect not followed: ${String(headers["location"] ?? "no location")}`
    if (status === 429 || status === 503) this.#retryAfter = retryAfterMillis(headers["retry-after"])
    this.#cancelPatience = this.#lane.timers.after(answerPatience, () => {
      this.#decide()
      // It trickles, and would keep its permit from the retry.
      controller.abort(abandoned)
    })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#decided) {
      const wanted = chunk.subarray(0, loggedAnswerBytes - (this.#answer?.length ?? 0))
      this.#answer = this.#answer === undefined ? Buffer.from(wanted) : Buffer.concat([this.#answer, wanted])
      if (this.#answer.length >= loggedAnswerBytes) this.#decide()
    }
    this.#received += chunk.length
    if (this.#received > answerBytes) controller.abort(abandoned)
  }

  onResponseEnd(): void {
    this.#decide()
    this.#letGo()
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.#status === undefined) this.#error = describeError(error)
    this.#decide()
    this.#letGo()
  }

  #decide(): void {
    if (this.#decided) return
    this.#decided = true
    this.#cancelPatience()
    const outcome = this.#status !== undefined
      ? Outcome.ofStatus(this.#status)
      : this.#controller === undefined
      ? "unreachable"
      : "broken off"
    this.#attempt.decided(this.#result(outcome))
  }

  #result(outcome: Outcome.Outcome): TryResult {
    return {
      outcome,
      status: this.#status,
      error: this.#error,
      answer: this.#answer?.toString("utf8"),
      latency: this.#latency,
      retryAfter: this.#retryAfter
    }
  }

  #letGo(): void {
    if (this.#gone) return
    this.#gone = true
    this.#cancelPatience()
    this.#attempt.letGo(this)
  }
}

const abandoned = new Error("abandoned")

/** An error's code where it has one; addresses and stacks help nobody who reads a log. */
const describeError = (error: Error): string => {
  const { code } = error as NodeJS.ErrnoException
  return typeof code === "string" ? code : error.message
}

/** `Retry-After` (RFC 9110 §10.2.3) in milliseconds from now: seconds or a date. */
const retryAfterMillis = (header: string | Array<string> | undefined): number | undefined => {
  const value = (Array.isArray(header) ? header[0] : header)?.trim()
  if (value === undefined) return undefined
  if (/^\d+$/.test(value)) return Number(value) * 1_000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now())
}
