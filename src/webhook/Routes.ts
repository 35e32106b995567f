/**
 * `POST /` and `POST /proxy`. Everything that the head of a request tells by itself is checked here, before the first
 * byte of the body.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { IncomingMessage, ServerResponse } from "node:http"
import { BackendRegistry } from "../backends/Registry.ts"
import { isLoop } from "../domain/ForwardedHeaders.ts"
import { Spray } from "../forwarding/Spray.ts"
import { addPath } from "../http/MethodRoutes.ts"
import { DeliveryLog } from "../observability/logs/DeliveryLog.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import { Tracing } from "../observability/telemetry/Tracing.ts"
import { contained } from "../runtime/Contained.ts"
import { MemoryBudget } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { BodyReader } from "./BodyReader.ts"
import { healthy } from "./HealthRoutes.ts"
import { Pseudonym } from "./Pseudonym.ts"
import { receive, type ReceptionHost } from "./Reception.ts"
import * as Refusals from "./Refusals.ts"
import { headerOf } from "./RequestHeader.ts"
import { WebhookVerifier } from "./Verifier.ts"

export const WebhookRoutes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const settings = yield* Settings
  const verifier = yield* WebhookVerifier
  const registry = yield* BackendRegistry
  const tracing = yield* Tracing
  const pseudonym = yield* Pseudonym
  const runFork = Effect.runForkWith(yield* Effect.context())
  const host: ReceptionHost = {
    budget: yield* MemoryBudget,
    log: yield* DeliveryLog,
    metrics: yield* Metrics,
    reader: yield* BodyReader,
    refusals: yield* Refusals.make,
    replyDeadline: Duration.toMillis(settings.replyDeadline),
    report: (defect: unknown) => void runFork(contained(Effect.die(defect))),
    spray: yield* Spray,
    timers: yield* Timers
  }
  const { metrics, refusals: { refuse }, timers } = host

  const handler = (request: HttpServerRequest) => {
    const startedAt = timers.now()
    metrics.inbound()
    const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
    const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    const trace = tracing.begin(incoming, outgoing)

    if (Number(incoming.headers["content-length"] ?? 0) > settings.maxRequestSize) {
      return refuse(request, "body too large", startedAt)
    }
    const verification = verifier.begin(headerOf(incoming, "x-hub-signature-256"))
    if (typeof verification === "string") return refuse(request, verification, startedAt)
    // Until all backends are known, GitHub lists the delivery as failed, and a redelivery goes to all of them.
    // Forwarded to some now, it would be lost for the others.
    if (!registry.isKnown()) return refuse(request, "backends unknown", startedAt)
    const names = pseudonym.names()
    if (isLoop(headerOf(incoming, "via"), names)) return refuse(request, "loop", startedAt)
    if (incoming.headers["expect"] !== undefined && incoming.httpVersion !== "1.0") outgoing.writeContinue()

    trace?.verifying()
    return receive(host, { request, startedAt, verification, via: `1.1 ${names[0]}`, trace })
  }

  const unknownCoding = (request: HttpServerRequest) => {
    const startedAt = timers.now()
    metrics.inbound()
    tracing.begin(
      NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage,
      NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    )
    return refuse(request, "transfer coding unknown", startedAt)
  }

  for (const path of ["/", "/proxy"] as const) {
    yield* addPath(router, path, { GET: () => healthy, POST: handler }, { POST: unknownCoding })
  }
}))
