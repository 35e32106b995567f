/** The public listener: the `node:http` server under Effect's, with its limits and its shutdown. */
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
import * as Listener from "./Listener.ts"
import { PublicResponse, tellSenderClosed } from "./PublicResponse.ts"
import { Readiness } from "./Readiness.ts"

export class PublicServer extends Context.Service<PublicServer, {
  readonly server: Server
  /** From now on every reply closes its connection, also a reply to a request that is under way. */
  readonly beginDraining: Effect.Effect<void>
  /** Takes no new connections. Open ones may finish. */
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
        // If the bytes after such a request can't be parsed, Node takes them for the other protocol and says nothing.
        if (readiness.isDraining() || askedToUpgrade.has(request)) response.shouldKeepAlive = false
        unanswered.add(response)
        response.on("close", onClose)
      }

      const server = createServer({
        headersTimeout: 10_000,
        // The reader of a body limits its time more closely, and does not count the time in which it waits for memory.
        requestTimeout: 30_000 + Duration.toMillis(settings.replyDeadline),
        connectionsCheckingInterval: 1_000,
        // Nothing is upgraded here (RFC 9110 §7.8). Node would take the body of such a request for another protocol.
        shouldUpgradeCallback: (request) => {
          askedToUpgrade.add(request)
          return false
        },
        ServerResponse: PublicResponse,
        // Longer than the 90 s for which kube-rbac-proxy reuses a connection, because it never sends a POST again.
        keepAliveTimeout: 120_000
      })
      // Node has this property for it, and no option. Without it, a client that closes its side after its request would
      // lose the connection, and the reply with it.
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

  /** Effect's `HttpServer` on this server. */
  static readonly layerHttpServer = Layer.unwrap(
    Effect.map(PublicServer, ({ server }) => Listener.layer("port", () => server, { backlog: acceptQueueLength }))
  )
}
