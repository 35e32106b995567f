/**
 * The public listener: the `node:http` server under Effect's, with its limits and its end.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createServer, type IncomingMessage, type Server } from "node:http"
import { Server as NetServer } from "node:net"
import { RefusalLog } from "../observability/logs/RefusalLog.ts"
import { Idleness } from "../runtime/Idleness.ts"
import { LiveSet } from "../runtime/LiveSet.ts"
import { Settings } from "../settings/Settings.ts"
import { acceptQueueLength, acceptQueueTaken } from "./AcceptQueue.ts"
import { answerClientErrors } from "./ClientErrors.ts"
import { PublicResponse, tellSenderClosed } from "./PublicResponse.ts"
import { Readiness } from "./Readiness.ts"

export class PublicServer extends Context.Service<PublicServer, {
  readonly server: Server
  /** Every reply from now on closes its connection, those to requests that are under way too. */
  readonly beginDraining: Effect.Effect<void>
  /** No new connections. Those that are open may finish. */
  readonly stopAccepting: Effect.Effect<void>
  /** Waits until every request has its reply. */
  readonly idle: Effect.Effect<void>
  readonly closeConnections: Effect.Effect<void>
}>()("sprayproxy/http/PublicServer") {
  static readonly layer = Layer.effect(
    PublicServer,
    Effect.gen(function*() {
      const settings = yield* Settings
      const readiness = yield* Readiness
      const refusals = yield* RefusalLog
      const unanswered = new LiveSet<PublicResponse<IncomingMessage>>()
      const idleness = new Idleness(() => unanswered.size === 0)
      const askedToUpgrade = new WeakSet<IncomingMessage>()

      function onClose(this: PublicResponse<IncomingMessage>) {
        unanswered.delete(this)
        idleness.check()
      }
      const onRequest = (request: IncomingMessage, response: PublicResponse<IncomingMessage>) => {
        // Node takes what comes after such a request for the other protocol where it can't be parsed, and says nothing.
        if (readiness.isDraining() || askedToUpgrade.has(request)) response.shouldKeepAlive = false
        unanswered.add(response)
        response.on("close", onClose)
      }

      const server = createServer({
        headersTimeout: 10_000,
        // A body's time is kept by its reader, who does not count the time in which it waits for memory.
        requestTimeout: 30_000 + Duration.toMillis(settings.replyDeadline),
        connectionsCheckingInterval: 1_000,
        // Nothing is upgraded here (RFC 9110 §7.8); Node would take the body of such a request for another protocol.
        shouldUpgradeCallback: (request) => {
          askedToUpgrade.add(request)
          return false
        },
        ServerResponse: PublicResponse,
        // Above the 90 s for which kube-rbac-proxy reuses a connection: it never sends a POST again.
        keepAliveTimeout: 120_000
      })
      // Node has it for this, and no option: else it would end the connection with the request.
      Object.assign(server, { httpAllowHalfOpen: true })
      server.on("connection", tellSenderClosed)
      server.on("request", onRequest).on("checkContinue", onRequest)
      answerClientErrors(server, refusals)

      return PublicServer.of({
        server,
        beginDraining: Effect.sync(() => {
          for (const response of unanswered) response.shouldKeepAlive = false
        }),
        // `http.Server.close` would also close idle connections, on which a request may be arriving.
        stopAccepting: Effect.andThen(
          acceptQueueTaken(server),
          Effect.sync(() => void NetServer.prototype.close.call(server))
        ),
        idle: idleness.await,
        closeConnections: Effect.sync(() => server.closeAllConnections())
      })
    })
  )

  /** Effect's `HttpServer` on it. */
  static readonly layerHttpServer = Layer.unwrap(Effect.gen(function*() {
    const { server } = yield* PublicServer
    const { host, port } = yield* Settings
    return NodeHttpServer.layerServer(() => server, {
      port,
      backlog: acceptQueueLength,
      ...(host === "" ? {} : { host })
    })
  }))
}
