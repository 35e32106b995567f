/**
 * The public listener: the `node:http` server under Effect's, with its limits, its request ids, and its end.
 *
 * **Details**
 *
 * A client that has closed its side gets the replies that are due, and then its connection ends. Nothing tells it from one that
 * has gone, until a reply to it is answered with a reset.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { Server as NetServer, type Socket } from "node:net"
import { IdentifiedResponse, newRequestId, requestIdOf } from "../observability/RequestId.ts"
import { RefusalLog } from "../observability/logs/RefusalLog.ts"
import { LiveSet, type Member } from "../runtime/LiveSet.ts"
import { Settings } from "../settings/Settings.ts"
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
      const idleListeners = new Set<() => void>()

      const askedToUpgrade = new WeakSet<IncomingMessage>()

      function onClose(this: PublicResponse<IncomingMessage>) {
        unanswered.delete(this)
        if (unanswered.size === 0) { for (const listener of idleListeners) listener() }
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
      server.on("connection", (socket: ClientSocket) => {
        socket.once("end", () => {
          const response = socket[currentResponse]
          if (response instanceof PublicResponse) response.onSenderClosed()
        })
      })
      server.on("request", onRequest).on("checkContinue", onRequest)
      const failing = new WeakSet<Socket>()
      const onClientError = (error: NodeJS.ErrnoException, socket: ClientSocket): void => {
        if (error.code === "ERR_HTTP_REQUEST_TIMEOUT" && socket.bytesRead === 0) {
          // A connection that a proxy has opened in advance. It may stay as long as one that has been used.
          socket.setTimeout(server.keepAliveTimeout)
          return
        }
        const before = socket[currentResponse]
        if (before?.req.complete === true && !socket.destroyed) {
          // It ends the connection, but the requests before it were good and get their replies first.
          if (!failing.has(socket)) before.once("close", () => onClientError(error, socket))
          failing.add(socket)
          return
        }
        const requestId = before == null ? newRequestId() : requestIdOf(before)
        const refused = answerClientError(error, socket, requestId)
        if (refused !== undefined) {
          refusals.refused(refused.reason, { "request-id": requestId, status: refused.status, error: error.code })
        }
      }
      server.on("clientError", onClientError)

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
    return NodeHttpServer.layerServer(() => server, { port, backlog: acceptQueue, ...(host === "" ? {} : { host }) })
  }))
}

/**
 * Waits until the program has taken the connections that the system has accepted for it: closing the listener would reset
 * them, and libuv takes one in each turn of the event loop.
 */
const acceptQueueTaken = (server: Server) =>
  Effect.callback<void>((resume) => {
    let turns = 0
    let lastConnection = 0
    const onConnection = () => {
      lastConnection = turns
    }
    const turn = () => {
      turns += 1
      // New ones may come without end.
      if (turns - lastConnection <= quietTurns && turns <= mostTurns) {
        setImmediate(turn)
      } else {
        server.off("connection", onConnection)
        resume(Effect.void)
      }
    }
    server.on("connection", onConnection)
    setImmediate(turn)
  })

/** Connections that the system may hold for us; it has a limit of its own, most often 4,096. Node's default is 511. */
const acceptQueue = 65_535

const quietTurns = 3
const mostTurns = 5_000

const requestIdHeader = "X-Request-Id"

/** Calls `f` when this request's sender has closed its side before its reply is out. */
export const onSenderClosed = (response: ServerResponse, f: () => void): void => {
  if (response instanceof PublicResponse) response.whenSenderClosed(f)
}

/** Every reply has its id, those that Node gives by itself too (no `Host`, an `Expect` that it does not know). */
class PublicResponse<Request extends IncomingMessage> extends IdentifiedResponse<Request> implements Member {
  place = -1
  #senderClosed = false
  #whenSenderClosed: (() => void) | undefined

  onSenderClosed(): void {
    this.#senderClosed = true
    if (!this.writableEnded) this.#whenSenderClosed?.()
  }

  whenSenderClosed(f: () => void): void {
    this.#whenSenderClosed = f
    if (this.#senderClosed) f()
  }

  /** Every head is written here, Node's own too. A header that is set before makes Node take the slow way for all. */
  override writeHead(status: number, ...rest: ReadonlyArray<unknown>): this {
    // Effect's server asks for it. Node then sends an empty string after the body: a `writev` and a tick more.
    this.strictContentLength = false
    const headers = rest.at(-1)
    const identified: Array<unknown> = []
    if (Array.isArray(headers)) {
      identified.push(...headers)
    } else if (typeof headers === "object") {
      for (const name in headers) identified.push(name, (headers as Record<string, unknown>)[name])
    }
    identified.push(requestIdHeader, this.requestId)
    const phrase = typeof rest[0] === "string" ? rest[0] : undefined
    const writeHead = super.writeHead as (...args: ReadonlyArray<unknown>) => unknown
    writeHead.call(this, status, phrase, identified)
    return this
  }
}

const answerTo = (code: string | undefined) =>
  code === "ERR_HTTP_REQUEST_TIMEOUT"
    ? { status: 408, phrase: "Request Timeout", reason: "request timeout" }
    : code === "HPE_HEADER_OVERFLOW"
    ? { status: 431, phrase: "Request Header Fields Too Large", reason: "headers too large" }
    : { status: 400, phrase: "Bad Request", reason: "not http" }

/** Where Node keeps the response that a socket is busy with; its own default listener looks there too. */
const currentResponse = "_httpMessage"

type ClientSocket = Socket & { readonly [currentResponse]?: ServerResponse | null }

/** What Node would answer by itself, with a request id and without a reset. Undefined: there was nobody to answer. */
const answerClientError = (
  error: NodeJS.ErrnoException,
  socket: ClientSocket,
  requestId: string
): { readonly status: number; readonly reason: string } | undefined => {
  // Answered already; the rest of what is no HTTP is discarded until the connection closes.
  if (socket.writableEnded && !socket.destroyed) return undefined
  const inTheBody = socket[currentResponse]?.req.complete === false
  const gone = error.code === "ECONNRESET" || (inTheBody && error.code === "HPE_INVALID_EOF_STATE")
  if (gone || !socket.writable || socket[currentResponse]?.headersSent === true) {
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
