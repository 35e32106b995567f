/**
 * The public listener: the `node:http` server under Effect's, with its limits, its request ids, and its end.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { Server as NetServer, type Socket } from "node:net"
import { Readiness } from "./Readiness.ts"
import { RefusalLog } from "./RefusalLog.ts"
import { Settings } from "./Settings.ts"

export class PublicServer extends Context.Service<PublicServer, {
  readonly server: Server
  /** Every reply from now on closes its connection, those to requests that are under way too. */
  readonly beginDraining: Effect.Effect<void>
  /** No new connections. Those that are open may finish. */
  readonly stopAccepting: Effect.Effect<void>
  /** Waits until every request has its reply. */
  readonly idle: Effect.Effect<void>
  readonly closeConnections: Effect.Effect<void>
}>()("sprayproxy/PublicServer") {
  static readonly layer = Layer.effect(
    PublicServer,
    Effect.gen(function*() {
      const settings = yield* Settings
      const readiness = yield* Readiness
      const refusals = yield* RefusalLog
      const unanswered = new Set<ServerResponse>()
      const idleListeners = new Set<() => void>()

      const onRequest = (_request: IncomingMessage, response: ServerResponse) => {
        response.setHeader(requestIdHeader, randomUUID())
        if (readiness.isDraining()) response.shouldKeepAlive = false
        unanswered.add(response)
        response.once("close", () => {
          unanswered.delete(response)
          if (unanswered.size === 0) { for (const listener of idleListeners) listener() }
        })
      }

      const server = createServer({
        headersTimeout: 10_000,
        // A body's time is kept by its reader, who does not count the time in which it waits for memory.
        requestTimeout: 30_000 + Duration.toMillis(settings.replyDeadline),
        connectionsCheckingInterval: 1_000,
        // Above the 90 s for which kube-rbac-proxy reuses a connection: it never sends a POST again.
        keepAliveTimeout: 120_000
      })
      server.on("request", onRequest).on("checkContinue", onRequest)
      server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
        const requestId = randomUUID()
        const refused = answerClientError(error, socket, requestId)
        if (refused !== undefined) {
          refusals.refused(refused.reason, { "request-id": requestId, status: refused.status, error: error.code })
        }
      })

      return PublicServer.of({
        server,
        beginDraining: Effect.sync(() => {
          for (const response of unanswered) response.shouldKeepAlive = false
        }),
        // `http.Server.close` would also close idle connections, on which a request may be arriving.
        stopAccepting: Effect.sync(() => void NetServer.prototype.close.call(server)),
        idle: Effect.callback((resume) => {
          if (unanswered.size === 0) return resume(Effect.void)
          const listener = () => resume(Effect.void)
          idleListeners.add(listener)
          return Effect.sync(() => idleListeners.delete(listener))
        }),
        closeConnections: Effect.sync(() => server.closeAllConnections())
      })
    })
  )

  /** Effect's `HttpServer` on it. */
  static readonly layerHttpServer = Layer.unwrap(Effect.gen(function*() {
    const { server } = yield* PublicServer
    const { host, port } = yield* Settings
    return NodeHttpServer.layerServer(() => server, { port, ...(host === "" ? {} : { host }) })
  }))
}

const requestIdHeader = "X-Request-Id"

/** The id that this request's reply carries. */
export const requestIdOf = (response: ServerResponse): string => String(response.getHeader(requestIdHeader))

const answerTo = (code: string | undefined) =>
  code === "ERR_HTTP_REQUEST_TIMEOUT"
    ? { status: 408, phrase: "Request Timeout", reason: "request timeout" }
    : code === "HPE_HEADER_OVERFLOW"
    ? { status: 431, phrase: "Request Header Fields Too Large", reason: "headers too large" }
    : { status: 400, phrase: "Bad Request", reason: "not http" }

/** Where Node keeps the response that a socket is busy with; its own default listener looks there too. */
const currentResponse = "_httpMessage"

/** What Node would answer by itself, with a request id and without a reset. Undefined: there was nobody to answer. */
const answerClientError = (
  error: NodeJS.ErrnoException,
  socket: Socket & { readonly [currentResponse]?: ServerResponse | null },
  requestId: string
): { readonly status: number; readonly reason: string } | undefined => {
  if (error.code === "ECONNRESET" || !socket.writable || socket[currentResponse]?.headersSent === true) {
    socket.destroy()
    return undefined
  }
  const answer = answerTo(error.code)
  const text = answer.phrase.toLowerCase()
  socket.end(
    `HTTP/1.1 ${answer.status} ${answer.phrase}\r\nConnection: close\r\n${requestIdHeader}: ${requestId}\r\n` +
      `Content-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`
  )
  setTimeout(() => socket.destroy(), 500).unref()
  return answer
}
