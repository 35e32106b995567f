/**
 * One request to a backend, from its permit until undici has let go of it, and the result that undici's callbacks make
 * of it.
 *
 * **Details**
 *
 * The status line decides the outcome. The rest of the answer is read up to 64 KiB, so that the connection can be kept.
 */
import type { Dispatcher } from "undici"
import * as StatusLines from "../backends/connections/StatusLines.ts"
import type { Delivery } from "../domain/Delivery.ts"
import * as Outcome from "../domain/Outcome.ts"
import type { CancelTimer } from "../runtime/Timers.ts"
import type { Lane } from "./BackendLane.ts"

/** Reading an answer to its end keeps the connection. Beyond this size a new connection is cheaper. */
const answerBytes = 64 * 1024

const loggedAnswerBytes = 1024

/** Some backends repeat the request in their errors. */
const signature = /sha256=[0-9a-f]{64}/gi

/** Milliseconds that a status other than 2xx waits for the words that go with it into the log. */
const answerPatience = 1_000

/** The attempt that sends a request. */
export interface RequestOwner {
  /** The request has a result. Called at most once. */
  readonly decided: (result: RequestResult) => void
  /** undici has let go of the request, and its permit is free. Called once, after `decided`. */
  readonly letGo: (request: BackendRequest) => void
}

/** The result of a request. */
export interface RequestResult {
  readonly outcome: Outcome.Outcome
  readonly status?: number | undefined
  readonly error?: string | undefined
  readonly answer?: string | undefined
  /** Milliseconds from the request to its status line. */
  readonly latency?: number | undefined
  /** How long the answer asks us to wait, in milliseconds. */
  readonly retryAfter?: number | undefined
}

export class BackendRequest implements Dispatcher.DispatchHandler {
  readonly #owner: RequestOwner
  readonly #lane: Lane
  readonly #sentAt: number
  #controller: Dispatcher.DispatchController | undefined
  #aborted = false
  #gone = false
  #statusLinesBefore = 0
  #decided = false
  #status: number | undefined
  #error: string | undefined
  #latency: number | undefined
  #retryAfter: number | undefined
  #received = 0
  #answer: Buffer | undefined
  #cancelPatience: CancelTimer | undefined

  constructor(owner: RequestOwner, lane: Lane) {
    this.#owner = owner
    this.#lane = lane
    this.#sentAt = lane.timers.now()
  }

  get isDecided(): boolean {
    return this.#decided
  }

  /** Sends the request, with `headers` in place of the delivery's own. */
  dispatch(delivery: Delivery, headers: Array<string>): void {
    const { backend, dispatcher } = this.#lane
    try {
      dispatcher.dispatch({
        origin: backend.origin,
        path: backend.basePath + delivery.forwardedTarget,
        method: delivery.method as Dispatcher.HttpMethod,
        headers,
        // undici takes any iterable of buffers; its types don't say so.
        body: delivery.body.toDispatch() as Buffer
      }, this)
    } catch (error) {
      this.onResponseError(undefined, error as Error)
    }
  }

  /** The result of a request that is cut off for `reason`. */
  cutOff(reason: string): RequestResult {
    if (this.#status !== undefined) return this.#result(this.#ofStatus(this.#status))
    return this.#controller === undefined
      ? { outcome: "unreachable", error: "no connection in time" }
      : { outcome: "timed out", error: reason }
  }

  abort(): void {
    this.#aborted = true
    this.#decided = true
    // undici can't abort a request before it has started it. Then `onRequestStart` aborts.
    this.#controller?.abort(abandoned)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    this.#statusLinesBefore = StatusLines.count()
    if (this.#aborted) controller.abort(abandoned)
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | Array<string> | undefined>
  ): void {
    if (status < 200) return
    this.#answered(status)
    if (status < 300) return this.#decide()
    if (status < 400) this.#error = `redirect not followed: ${String(headers["location"] ?? "no location")}`
    if (status === 429 || status === 503) this.#retryAfter = retryAfterMillis(headers["retry-after"])
    if (status === 407) this.#error = "proxy authentication required"
    this.#cancelPatience = this.#lane.timers.after(answerPatience, () => {
      this.#decide()
      // An answer that trickles would keep its permit from the retry.
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
    if (this.#status === undefined) this.#onUnreadable(error)
    this.#decide()
    this.#letGo()
  }

  #answered(status: number): void {
    this.#status = status
    const now = this.#lane.timers.now()
    this.#latency = now - this.#sentAt
    this.#lane.answered(now)
  }

  #onUnreadable(error: Error): void {
    this.#error = describeError(error)
    // Before the request has begun, the line is a proxy's, and nothing was sent.
    const line = this.#controller === undefined ? undefined : StatusLines.ofError(error)
    if (line === undefined || line.order <= this.#statusLinesBefore) return
    this.#answered(line.status)
    this.#error = `the answer's head can't be read: ${this.#error}`
  }

  #decide(): void {
    if (this.#decided) return
    this.#decided = true
    this.#cancelPatience?.()
    const outcome = this.#status !== undefined
      ? this.#ofStatus(this.#status)
      : this.#controller === undefined
      ? "unreachable"
      : "broken off"
    this.#owner.decided(this.#result(outcome))
  }

  #ofStatus(status: number): Outcome.Outcome {
    const answer = this.#answer
    if (
      answer === undefined || !this.#lane.backend.origin.startsWith("http:") ||
      !Outcome.isOfTlsPort(status, answer.toString("latin1"))
    ) {
      return Outcome.ofStatus(status)
    }
    this.#error = "its port is for TLS: the backend's url has to begin with https://"
    return "failed"
  }

  #result(outcome: Outcome.Outcome): RequestResult {
    return {
      outcome,
      status: this.#status,
      error: this.#error,
      answer: this.#answer?.toString("utf8").replaceAll(signature, "sha256=***"),
      latency: this.#latency,
      retryAfter: this.#retryAfter
    }
  }

  #letGo(): void {
    if (this.#gone) return
    this.#gone = true
    this.#cancelPatience?.()
    this.#owner.letGo(this)
  }
}

const abandoned = new Error("abandoned")

/** An error's code if it has one. Addresses and stacks help nobody who reads a log. */
const describeError = (error: Error): string => {
  // undici tells a proxy's answer to a tunnel only in the words of its message.
  const refusal = /^Proxy response \((\d{3})\)/.exec(error.message)?.[1]
  if (refusal !== undefined) {
    return `the proxy answered ${refusal}${refusal === "407" ? ": proxy authentication required" : ""}`
  }
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
