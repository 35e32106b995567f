/** Backends of member clusters, as real servers. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo, Server as NetServer, Socket } from "node:net"

/** A request as a backend received it. */
export interface Received {
  readonly method: string
  readonly url: string
  readonly rawHeaders: ReadonlyArray<string>
  readonly headers: Http.IncomingHttpHeaders
  readonly body: Buffer
  /** The number of the connection. */
  readonly connection: number
}

export interface TestBackend {
  readonly port: number
  readonly url: string
  readonly host: string
  readonly received: ReadonlyArray<Received>
  /** Resolves when `count` requests have been received in all. */
  readonly receivedAtLeast: (count: number) => Promise<void>
}

/** Answers 202 as Pipelines-as-Code does, or calls `answer` once a request's body is read. */
export const startBackend = (
  answer: (request: Received, response: Http.ServerResponse, count: number) => void = (_, response) => {
    response.writeHead(202).end()
  }
): Effect.Effect<TestBackend, never, Scope.Scope> =>
  Effect.suspend(() => {
    const received: Array<Received> = []
    const watchers = new Set<() => void>()
    const connections = new WeakMap<Socket, number>()
    let connectionCount = 0
    const server = Http.createServer(async (request, response) => {
      const chunks: Array<Buffer> = []
      try {
        for await (const chunk of request) chunks.push(chunk as Buffer)
      } catch {
        return
      }
      const connection = connections.get(request.socket) ?? (connectionCount += 1)
      connections.set(request.socket, connection)
      const { headers, method, rawHeaders, url } = request
      const seen = { method: method!, url: url!, rawHeaders, headers, body: Buffer.concat(chunks), connection }
      received.push(seen)
      for (const watcher of watchers) watcher()
      answer(seen, response, received.length)
    })
    return Effect.map(listen(server), (port) => ({
      port,
      url: `http://127.0.0.1:${port}`,
      host: `127.0.0.1:${port}`,
      received,
      receivedAtLeast: (count) =>
        new Promise((resolve) => {
          const check = () => {
            if (received.length < count) return
            watchers.delete(check)
            resolve()
          }
          watchers.add(check)
          check()
        })
    }))
  })

/** Listens on a free loopback port until the scope closes. Then its connections are ended too. */
export const listen = (server: NetServer): Effect.Effect<number, never, Scope.Scope> => {
  const sockets = new Set<Socket>()
  server.on("connection", (socket: Socket) => {
    sockets.add(socket)
    socket.on("error", () => {}).once("close", () => sockets.delete(socket))
  })
  return Effect.acquireRelease(
    Effect.promise(async () => {
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      return (server.address() as AddressInfo).port
    }),
    () =>
      Effect.promise(async () => {
        const closed = once(server, "close")
        server.close()
        for (const socket of sockets) socket.destroy()
        await closed
      })
  )
}
