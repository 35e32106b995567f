/**
 * The answers to requests that do not become a delivery, or for which there is no memory. They say nothing of what is
 * behind us.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type { IncomingMessage, ServerResponse } from "node:http"
import { answerEarly } from "../http/EarlyAnswer.ts"
import { requestIdOf } from "../observability/RequestId.ts"
import { targetFields } from "../observability/logs/DeliveryJson.ts"
import { seconds } from "../observability/logs/DeliveryLog.ts"
import { RefusalLog } from "../observability/logs/RefusalLog.ts"
import { Metrics, type RefusalReason } from "../observability/metrics/Metrics.ts"
import { Tracing } from "../observability/telemetry/Tracing.ts"
import { Timers } from "../runtime/Timers.ts"
import { headerOf } from "./RequestHeader.ts"

interface Refusal {
  readonly status: number
  readonly text: string
}

const badRequest: Refusal = { status: 400, text: "bad request" }

const refusals: Readonly<Record<RefusalReason, Refusal>> = {
  "backends unknown": { status: 503, text: "backends unknown" },
  "body cut off": badRequest,
  "body too large": { status: 413, text: "request body too large" },
  "loop": { status: 508, text: "loop" },
  "no secret": { status: 503, text: "no secret" },
  "overloaded": { status: 503, text: "overloaded" },
  "sender too slow": { status: 408, text: "request timeout" },
  "signature malformed": badRequest,
  "signature mismatch": badRequest,
  "signature missing": badRequest,
  "transfer coding unknown": { status: 501, text: "transfer coding not implemented" }
}

export interface Refusals {
  /** Logs and counts the refusal, and answers the request. `startedAt` is a time of `Timers.now`. */
  readonly refuse: (
    request: HttpServerRequest,
    reason: RefusalReason,
    startedAt: number
  ) => Effect.Effect<HttpServerResponse>
  /** Logs and counts a refusal that nobody is left to hear. */
  readonly writeDown: (request: HttpServerRequest, reason: RefusalReason, startedAt: number) => void
}

export const make = Effect.gen(function*() {
  const timers = yield* Timers
  const metrics = yield* Metrics
  const tracing = yield* Tracing
  const log = yield* RefusalLog

  const writeDown: Refusals["writeDown"] = (request, reason, startedAt) => {
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    const millis = timers.now() - startedAt
    metrics.refused(reason, millis)
    tracing.refused(outgoing, reason)
    log.refused(reason, {
      "request-id": requestIdOf(outgoing),
      delivery: headerOf(incoming, "x-github-delivery"),
      event: headerOf(incoming, "x-github-event"),
      method: request.method,
      ...targetFields(request.url),
      status: refusals[reason].status,
      latency: seconds(millis)
    })
  }

  const refuse: Refusals["refuse"] = (request, reason, startedAt) => {
    writeDown(request, reason, startedAt)
    const { status, text } = refusals[reason]
    return answerEarly(request, status, text, status === 503 ? retryLater : undefined)
  }

  return { refuse, writeDown } satisfies Refusals
})

const retryLater = { "retry-after": "10" }
