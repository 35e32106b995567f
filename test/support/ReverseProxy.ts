/** A reverse proxy that treats connections as kube-rbac-proxy does. */
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { NetConnectOpts, Socket } from "node:net"
import { listen } from "./Backend.ts"

/** Keeps connections, at most `size` of them, and tells how many it has opened. */
class CountingAgent extends Http.Agent {
  opened = 0
  constructor(size: number) {
    super({ keepAlive: true, maxSockets: size, maxFreeSockets: size, scheduling: "fifo" })
  }
  override createConnection(options: NetConnectOpts, callback?: (error: Error | null, stream: Socket) => void) {
    this.opened += 1
    return super.createConnection(options as Http.ClientRequestArgs, callback as never)
  }
}

const hopByHop = new Set(["keep-alive", "connection", "transfer-encoding"])

/** The headers that are passed on. Those of HTTP/2 that begin with a colon are no headers of HTTP/1.1. */
export const endToEnd = (headers: Http.IncomingHttpHeaders): Http.OutgoingHttpHeaders =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !hopByHop.has(name) && !name.startsWith(":")))

/** Reuses a connection however long it was idle, sends nothing twice, answers any error with 502. */
export const makeForwarder = Effect.fnUntraced(function*(upstream: number, size: number) {
  const agent = yield* Effect.acquireRelease(
    Effect.sync(() => new CountingAgent(size)),
    (acquired) => Effect.sync(() => acquired.destroy())
  )
  const errors: Array<string> = []
  const forward = (
    request: Http.IncomingMessage,
    response: Http.ServerResponse,
    headers = endToEnd(request.headers),
    losesAnswer = false
  ) => {
    const { method, url } = request
    const forwarded = Http.request({ host: "127.0.0.1", port: upstream, agent, method, path: url, headers })
    forwarded.on("response", (answer) => {
      if (losesAnswer) {
        answer.resume()
        return response.writeHead(502).end()
      }
      response.writeHead(answer.statusCode!, endToEnd(answer.headers))
      return answer.pipe(response)
    })
    forwarded.on("error", (error) => {
      if (response.headersSent) return
      errors.push(String(error))
      response.writeHead(502).end("bad gateway")
    })
    // The rest of a body that nobody wants is read, so that our own client gets its answer.
    response.on("close", () => {
      request.unpipe(forwarded)
      request.resume()
    })
    request.pipe(forwarded)
  }
  return { forward, errors, opened: () => agent.opened }
})

export const startReverseProxy = Effect.fnUntraced(function*(upstream: number, size = 32) {
  const { errors, forward, opened } = yield* makeForwarder(upstream, size)
  const port = yield* listen(Http.createServer((request, response) => forward(request, response)))
  return { port, errors, opened }
})
