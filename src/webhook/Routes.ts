/** `POST /` and `POST /proxy`: from an HTTP request to a delivery, and from what became of it to a reply. */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type { IncomingMessage, ServerResponse } from "node:http"
import { BackendRegistry } from "../backends/Registry.ts"
import { forwardedTarget } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import { forwardedHeaders, isLoop } from "../domain/ForwardedHeaders.ts"
import { Spray, type SprayResult } from "../forwarding/Spray.ts"
import { answerEarly } from "../http/EarlyAnswer.ts"
import { addPath } from "../http/MethodRoutes.ts"
import { plainText } from "../http/PlainText.ts"
import { onSenderClosed } from "../http/PublicServer.ts"
import { requestIdOf } from "../observability/RequestId.ts"
import { DeliveryLog, seconds, targetFields } from "../observability/logs/DeliveryLog.ts"
import { RefusalLog } from "../observability/logs/RefusalLog.ts"
import { Metrics, type RefusalReason } from "../observability/metrics/Metrics.ts"
import { Tracing } from "../observability/traces/Tracing.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { type BodyFailure, BodyReader } from "./BodyReader.ts"
import { healthy } from "./HealthRoutes.ts"
import { Pseudonym } from "./Pseudonym.ts"
import { WebhookVerifier } from "./Verifier.ts"

/** Replies say nothing of what is behind us; `X-Request-Id` ties them to the logs. */
const replies: Readonly<Record<SprayResult, HttpServerResponse>> = {
  proxied: plainText(200, "proxied"),
  accepted: plainText(202, "accepted"),
  forwarding: plainText(202, "forwarding"),
  failed: plainText(502, "failed to proxy")
}

interface Refusal {
  readonly status: number
  readonly text: string
  readonly reason: RefusalReason
}

const tooLarge: Refusal = { status: 413, text: "request body too large", reason: "body too large" }
const tooSlow: Refusal = { status: 408, text: "request timeout", reason: "sender too slow" }
const overloaded: Refusal = { status: 503, text: "overloaded", reason: "overloaded" }
const noSecret: Refusal = { status: 503, text: "no secret", reason: "no secret" }
const backendsUnknown: Refusal = { status: 503, text: "backends unknown", reason: "backends unknown" }
const loop: Refusal = { status: 508, text: "loop", reason: "loop" }
const badRequest = (reason: RefusalReason): Refusal => ({ status: 400, text: "bad request", reason })

/** Refusals of what began well. */
const endings: Readonly<Record<BodyFailure["_tag"], Refusal>> = {
  BodyTooLarge: tooLarge,
  SenderTooSlow: tooSlow,
  BodyCutOff: badRequest("body cut off"),
  Overloaded: overloaded
}

export const WebhookRoutes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const settings = yield* Settings
  const verifier = yield* WebhookVerifier
  const reader = yield* BodyReader
  const spray = yield* Spray
  const registry = yield* BackendRegistry
  const timers = yield* Timers
  const log = yield* DeliveryLog
  const refusals = yield* RefusalLog
  const tracing = yield* Tracing
  const metrics = yield* Metrics
  const pseudonym = yield* Pseudonym
  const replyDeadline = Duration.toMillis(settings.replyDeadline)

  const refused = (request: HttpServerRequest, refusal: Refusal, startedAt: number) => {
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    metrics.refused(refusal.reason, timers.now() - startedAt)
    tracing.refused(outgoing, refusal.reason)
    refusals.refused(refusal.reason, {
      "request-id": requestIdOf(outgoing),
      delivery: headerOf(incoming, "x-github-delivery"),
      event: headerOf(incoming, "x-github-event"),
      method: request.method,
      ...targetFields(request.url),
      status: refusal.status,
      latency: seconds(timers.now() - startedAt)
    })
  }

  const refuse = (request: HttpServerRequest, refusal: Refusal, startedAt: number) => {
    refused(request, refusal, startedAt)
    return answerEarly(
      request,
      refusal.status,
      refusal.text,
      refusal.status === 503 ? { "retry-after": "10" } : undefined
    )
  }

  const deliver = Effect.fnUntraced(function*(request: HttpServerRequest) {
    const startedAt = timers.now()
    const deadline = startedAt + replyDeadline
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    const trace = tracing.begin(incoming, outgoing)

    // Everything that the head alone can tell comes before the first byte of the body.
    if (Number(incoming.headers["content-length"] ?? 0) > settings.maxRequestSize) {
      return yield* refuse(request, tooLarge, startedAt)
    }
    const verification = verifier.begin(headerOf(incoming, "x-hub-signature-256"))
    if (verification === "no secret") return yield* refuse(request, noSecret, startedAt)
    if (typeof verification === "string") return yield* refuse(request, badRequest(verification), startedAt)
    // GitHub lists it as failed, and a redelivery goes to all of them; forwarded to some, it would be lost for the others.
    if (!registry.isKnown()) return yield* refuse(request, backendsUnknown, startedAt)
    const names = pseudonym.names()
    if (isLoop(headerOf(incoming, "via"), names)) return yield* refuse(request, loop, startedAt)
    if (incoming.headers["expect"] !== undefined && incoming.httpVersion !== "1.0") outgoing.writeContinue()

    trace?.verifying()
    const received = yield* Effect.interruptible(reader.read(incoming, deadline, (chunk) => verification.update(chunk)))
      .pipe(
        Effect.onInterrupt(() => Effect.sync(() => refused(request, endings.BodyCutOff, startedAt)))
      )
    const matches = verification.matches()
    trace?.verified(matches)
    if (!matches) {
      received.reservation.release()
      return yield* refuse(request, badRequest("signature mismatch"), startedAt)
    }
    const delivery: Delivery = {
      requestId: requestIdOf(outgoing),
      guid: headerOf(incoming, "x-github-delivery"),
      event: headerOf(incoming, "x-github-event"),
      method: request.method,
      target: request.url,
      forwardedTarget: forwardedTarget(request.url),
      headers: forwardedHeaders(incoming.rawHeaders, received.body.length, `1.1 ${names[0]}`),
      body: received.body,
      trace,
      logged: undefined
    }
    const elapsed = () => seconds(timers.now() - startedAt)
    onSenderClosed(outgoing, () => log.senderClosed(delivery, elapsed()))
    const result = yield* Effect.interruptible(spray.spray(delivery, received.reservation, deadline)).pipe(
      Effect.onInterrupt(() =>
        Effect.sync(() => {
          metrics.answered("gone", timers.now() - startedAt)
          log.hungUp(delivery, elapsed())
        })
      )
    )
    const reply = replies[result]
    metrics.answered(result, timers.now() - startedAt)
    log.answered(delivery, reply.status, result, elapsed())
    return reply
  })

  const handler = (request: HttpServerRequest) => {
    const startedAt = timers.now()
    metrics.inbound()
    return Effect.catch(deliver(request), ({ _tag: ending }) => refuse(request, endings[ending], startedAt))
  }

  yield* addPath(router, "/", { GET: () => healthy, POST: handler })
  yield* addPath(router, "/proxy", { GET: () => healthy, POST: handler })
}))

/** A header's value; repetitions are joined with commas, as RFC 9110 §5.3 says. */
const headerOf = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name]
  return typeof value === "string" ? value : value?.join(", ")
}
