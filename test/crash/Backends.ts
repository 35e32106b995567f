/** Clusters that go on while the server dies and comes back: well, not ready at times, down, refusing or hanging at times. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import * as Http from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { buffer } from "node:stream/consumers"
import { setTimeout as sleep } from "node:timers/promises"
import { eventually } from "../support/eventually.ts"
import type { Random } from "./Random.ts"
import type { Witness } from "./Witness.ts"

export interface CrashBackendOptions {
  readonly name: string
  /** Milliseconds until an answer, at most. */
  readonly delay?: number
  /** How often it answers 503. */
  readonly unready?: number
  /** How many times it refuses a delivery (404) of those that it refuses, a third of all. */
  readonly refusals?: number
}

/** Serves on one port until the scope closes. */
export const startCrashBackend = (
  witness: Witness,
  random: Random,
  options: CrashBackendOptions
): Effect.Effect<CrashBackend, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const backend = new CrashBackend(witness, random, options)
      await backend.up()
      return backend
    }),
    (backend) => Effect.promise(() => backend.down())
  )

export class CrashBackend {
  readonly name: string
  readonly #witness: Witness
  readonly #random: Random
  readonly #delay: number
  #unready: number
  readonly #refusals: number
  readonly #refused = new Map<string, number>()
  #hangs = false
  #server: Http.Server | undefined
  #port = 0
  #isUp = false
  #answering = 0
  readonly #sockets = new Set<Socket>()

  constructor(witness: Witness, random: Random, { delay = 0, name, refusals = 0, unready = 0 }: CrashBackendOptions) {
    this.name = name
    this.#witness = witness
    this.#random = random
    this.#delay = delay
    this.#unready = unready
    this.#refusals = refusals
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Ready from now on. */
  getWell(): void {
    this.#unready = 0
  }

  /** While it hangs it takes deliveries and never answers them. */
  hang(hangs: boolean): void {
    this.#hangs = hangs
  }

  async up(): Promise<void> {
    if (this.#isUp) return
    // Somebody's outgoing connection may have the port at the moment.
    await eventually(() => this.#listen(), "the backend's port")
    this.#isUp = true
  }

  #listen(): Promise<boolean> {
    const server = Http.createServer((request, response) => void this.#answer(request, response).catch(() => {}))
    server.keepAliveTimeout = 60_000
    server.on("connection", (socket) => {
      this.#sockets.add(socket)
      socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket))
    })
    return new Promise((resolve) => {
      server.once("error", () => resolve(false))
      server.listen(this.#port, "127.0.0.1", () => {
        this.#server = server
        this.#port = (server.address() as AddressInfo).port
        resolve(true)
      })
    })
  }

  /** Requests that the backend has taken are answered, and all others break off. After that it refuses connections. */
  async down(): Promise<void> {
    if (!this.#isUp) return
    this.#isUp = false
    await eventually(() => this.#answering === 0, "the last answers")
    const closed = once(this.#server!, "close")
    this.#server!.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  /** Resolves when all that the server sent before it died has been read, and its connections are gone. */
  async quiet(): Promise<void> {
    // Connections are accepted in their order: when ours is here, all that came before are.
    const socket = connect(this.#port, "127.0.0.1")
    await new Promise<void>((resolve) => {
      const accepted = (other: Socket) => other.remotePort === socket.localPort && resolve()
      this.#server?.on("connection", accepted)
      socket.once("close", () => {
        this.#server?.off("connection", accepted)
        resolve()
      }).on("error", () => {})
      socket.once("connect", () => {
        for (const other of this.#sockets) accepted(other)
      })
    })
    socket.destroy()
    await eventually(() => this.#sockets.size === 0, "the end of the dead server's connections")
  }

  async #answer(request: Http.IncomingMessage, response: Http.ServerResponse): Promise<void> {
    const body = await buffer(request)
    if (!this.#isUp) return void request.socket.destroy()
    const guid = String(request.headers["x-github-delivery"])
    this.#witness.received(this.name, guid, body)
    const status = this.#statusFor(guid)
    if (status === 202) {
      this.#witness.took(this.name, guid)
      response.once("close", () => {
        if (!response.writableFinished) this.#witness.unanswered(this.name, guid)
      })
    }
    if (this.#hangs) return
    this.#answering += 1
    if (this.#delay > 0) await sleep(this.#random.between(0, this.#delay))
    if (request.socket.destroyed) return void (this.#answering -= 1)
    response.once("close", () => this.#answering -= 1)
    response.writeHead(status).end()
  }

  #statusFor(guid: string): number {
    if (this.#random.chance(this.#unready)) return 503
    const refused = this.#refused.get(guid) ?? 0
    if (refused >= this.#refusals || !/^[0-4]/.test(guid)) return 202
    this.#refused.set(guid, refused + 1)
    return 404
  }
}

/** Down and up again for random times, until `stop`; then it is up. */
export const comeAndGo = Effect.fnUntraced(function*(backend: CrashBackend, random: Random) {
  const up = Effect.uninterruptible(Effect.promise(() => backend.up()))
  const down = Effect.uninterruptible(Effect.promise(() => backend.down()))
  const pause = (least: number, most: number) => Effect.suspend(() => Effect.sleep(random.between(least, most)))
  const outage = Effect.andThen(pause(500, 3_000), down).pipe(Effect.andThen(pause(500, 3_000)), Effect.andThen(up))
  const outages = yield* Effect.forkScoped(Effect.forever(outage))
  return { stop: Effect.andThen(Fiber.interrupt(outages), up) }
})
