/**
 * The reception of one request whose head was good, until its reply is known: its body is read and verified, and the
 * delivery is sprayed.
 *
 * **Details**
 *
 * A reception owns the delivery's reservation. It gives the memory back when nothing of the delivery is under way,
 * which may be long after the reply.
 *
 * **Gotchas**
 *
 * It works in callbacks. The request's fiber waits once for all of it.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type { IncomingMessage, ServerResponse } from "node:http"
import { forwardedTarget } from "../domain/Backend.ts"
import type { Body } from "../domain/Body.ts"
import type { Delivery, DeliveryTrace } from "../domain/Delivery.ts"
import { forwardedHeaders } from "../domain/ForwardedHeaders.ts"
import type { SprayObserver, SprayResult } from "../forwarding/Reply.ts"
import type { Spray } from "../forwarding/Spray.ts"
import { plainText } from "../http/PlainText.ts"
import { onSenderClosed } from "../http/PublicResponse.ts"
import { requestIdOf } from "../observability/RequestId.ts"
import { type DeliveryLog, seconds } from "../observability/logs/DeliveryLog.ts"
import type { Metrics, RefusalReason } from "../observability/metrics/Metrics.ts"
import type { MemoryBudget, Reservation } from "../runtime/MemoryBudget.ts"
import type { Timers } from "../runtime/Timers.ts"
import type { BodyFailure, BodyObserver, BodyReader } from "./BodyReader.ts"
import type { Refusals } from "./Refusals.ts"
import { headerOf } from "./RequestHeader.ts"
import type { Verification } from "./Verifier.ts"

/** Replies say nothing of what is behind us. `X-Request-Id` ties them to the logs. */
const replies: Readonly<Record<SprayResult, HttpServerResponse>> = {
  proxied: plainText(200, "proxied"),
  accepted: plainText(202, "accepted"),
  forwarding: plainText(202, "forwarding"),
  failed: plainText(502, "failed to proxy"),
  unmatched: plainText(200, "proxied")
}

/** The part that all receptions share. */
export interface ReceptionHost {
  readonly budget: MemoryBudget["Service"]
  readonly log: DeliveryLog["Service"]
  readonly metrics: Metrics["Service"]
  readonly reader: BodyReader["Service"]
  readonly refusals: Refusals
  /** Milliseconds. */
  readonly replyDeadline: number
  /** Reports a defect of a request for which no fiber waits any more. */
  readonly report: (defect: unknown) => void
  readonly spray: Spray["Service"]
  readonly timers: Timers["Service"]
}

/** A request whose head was good, and what the head has told. */
export interface Admitted {
  readonly request: HttpServerRequest
  /** A time of `Timers.now`. */
  readonly startedAt: number
  readonly verification: Verification
  /** The entry that is added to `Via`. */
  readonly via: string
  readonly trace: DeliveryTrace | undefined
}

/**
 * Succeeds with the reply. If the client hangs up before its body is complete, the request is refused. After that,
 * hanging up cancels nothing.
 */
export const receive = (host: ReceptionHost, admitted: Admitted): Effect.Effect<HttpServerResponse> =>
  Effect.interruptible(Effect.callback((resume) => {
    const reception = new Reception(host, admitted, resume)
    reception.start()
    return Effect.sync(() => reception.clientLeft())
  }))

class Reception implements BodyObserver, SprayObserver {
  readonly #host: ReceptionHost
  readonly #admitted: Admitted
  readonly #resume: (reply: Effect.Effect<HttpServerResponse>) => void
  readonly #reservation: Reservation
  readonly #incoming: IncomingMessage
  #delivery: Delivery | undefined
  #isRefused = false
  #isReplied = false
  #hasLeft = false
  #stopReading: (() => void) | undefined
  #stopWaiting: (() => void) | undefined

  constructor(
    host: ReceptionHost,
    admitted: Admitted,
    resume: (reply: Effect.Effect<HttpServerResponse>) => void
  ) {
    this.#host = host
    this.#admitted = admitted
    this.#resume = resume
    this.#reservation = host.budget.open()
    this.#incoming = NodeHttpServerRequest.toIncomingMessage(admitted.request) as IncomingMessage
  }

  start(): void {
    const { reader, replyDeadline } = this.#host
    const deadline = this.#admitted.startedAt + replyDeadline
    this.#stopReading = reader.read(this.#incoming, this.#reservation, deadline, this)
  }

  arrived(chunk: Buffer): void {
    this.#admitted.verification.update(chunk)
  }

  failed(failure: BodyFailure): void {
    this.ended()
    this.#refuse(failure)
  }

  received(body: Body): void {
    try {
      this.#verify(body)
    } catch (defect) {
      // An exception from a callback would end the process.
      this.died(defect)
    }
  }

  #verify(body: Body): void {
    const { request, startedAt, trace, verification, via } = this.#admitted
    const { log, replyDeadline, spray } = this.#host
    const matches = verification.matches()
    trace?.verified(matches)
    if (!matches) {
      this.ended()
      return this.#refuse("signature mismatch")
    }
    const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    const delivery: Delivery = this.#delivery = {
      requestId: requestIdOf(outgoing),
      guid: headerOf(this.#incoming, "x-github-delivery"),
      event: headerOf(this.#incoming, "x-github-event"),
      method: request.method,
      target: request.url,
      forwardedTarget: forwardedTarget(request.url),
      headers: forwardedHeaders(this.#incoming.rawHeaders, body.length, via),
      body,
      trace,
      logged: undefined
    }
    onSenderClosed(outgoing, () => log.senderClosed(delivery, seconds(this.#elapsed())))
    this.#stopWaiting = spray.spray(delivery, this.#reservation, startedAt + replyDeadline, this)
  }

  replied(result: SprayResult | "overloaded" | "gone"): void {
    if (this.#isReplied) return
    this.#isReplied = true
    if (result === "overloaded") return this.#refuse(result)
    const { log, metrics } = this.#host
    const elapsed = this.#elapsed()
    metrics.answered(result, elapsed)
    if (result === "gone") return log.hungUp(this.#delivery!, seconds(elapsed))
    const reply = replies[result]
    log.answered(this.#delivery!, reply.status, result, seconds(elapsed))
    this.#resume(Effect.succeed(reply))
  }

  ended(): void {
    this.#reservation.release()
  }

  /** The fiber, if it still waits, reports the defect and answers 500. */
  died(defect: unknown): void {
    this.ended()
    if (this.#isReplied || this.#hasLeft) return this.#host.report(defect)
    this.#isReplied = true
    this.#resume(Effect.die(defect))
  }

  clientLeft(): void {
    if (this.#isRefused) return
    this.#hasLeft = true
    if (this.#delivery !== undefined) return this.#stopWaiting?.()
    this.#stopReading?.()
    this.ended()
    this.#host.refusals.writeDown(this.#admitted.request, "body cut off", this.#admitted.startedAt)
  }

  /** From here on a client that leaves does not interrupt the answer. */
  #refuse(reason: RefusalReason): void {
    this.#isRefused = true
    const { request, startedAt } = this.#admitted
    this.#resume(Effect.uninterruptible(this.#host.refusals.refuse(request, reason, startedAt)))
  }

  #elapsed(): number {
    return this.#host.timers.now() - this.#admitted.startedAt
  }
}
