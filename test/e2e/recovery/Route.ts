/** The way from GitHub to the replicas: connections in turn, or none, or somebody else who answers 503. */
import * as Effect from "effect/Effect"
import { createServer as createHttpServer } from "node:http"
import { connect, createServer, type Socket } from "node:net"
import { listen } from "../../support/Backend.ts"

export class Route {
  readonly #replicas: Array<number> = []
  readonly #lastPort = new Map<string, number>()
  #turn = 0
  isOpen = true
  /** A router's page while no pod is ready. */
  isUnready = false
  url = ""
  unreadyPort = 0

  add(port: number): void {
    this.#replicas.push(port)
  }

  remove(port: number): void {
    const place = this.#replicas.indexOf(port)
    if (place >= 0) this.#replicas.splice(place, 1)
  }

  /** The replica that got a delivery last. */
  lastPort(guid: string): number | undefined {
    return this.#lastPort.get(guid)
  }

  /** Takes a connection to its end, byte for byte. */
  lead(socket: Socket): void {
    const port = this.isUnready ? this.unreadyPort : this.#replicas[this.#turn++ % this.#replicas.length]
    if (!this.isOpen || port === undefined) return void socket.resetAndDestroy()
    socket.once("data", (head) => {
      const guid = /^x-github-delivery: (\S+)\r$/im.exec(head.toString("latin1"))?.[1]
      if (guid !== undefined) this.#lastPort.set(guid, port)
    })
    const onward = connect(port, "127.0.0.1")
    const cut = () => {
      socket.destroy()
      onward.destroy()
    }
    socket.on("error", cut).once("close", cut)
    onward.on("error", cut).once("close", cut)
    socket.pipe(onward).pipe(socket)
  }
}

export const startRoute = Effect.gen(function*() {
  const route = new Route()
  route.unreadyPort = yield* listen(createHttpServer((request, response) => {
    request.resume().once("end", () => response.writeHead(503).end("Service Unavailable"))
  }))
  route.url = `http://127.0.0.1:${yield* listen(createServer((socket) => route.lead(socket)))}/proxy`
  return route
})
