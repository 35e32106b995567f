/** Ill-behaved neighbours: backends that use the bare socket, and relays that hide where they lead. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import * as Net from "node:net"
import { listen } from "./Backend.ts"
import { deliver, type Reply, type SendOptions } from "./GitHub.ts"
import { type LogLine, type Program } from "./Program.ts"

export interface Spray {
  readonly reply: Reply
  /** The log lines of its attempts. */
  readonly attempts: ReadonlyArray<LogLine>
}

/** A delivery, its reply, and the log lines of its attempts that were logged before the reply. */
export const spray = async (program: Program, body = "{}", options: SendOptions = {}): Promise<Spray> => {
  const guid = randomUUID()
  const reply = await deliver(program.port, body, {
    ...options,
    headers: { ...options.headers, "x-github-delivery": guid }
  })
  await program.logged(({ delivery, msg }) => msg === "delivery answered" && delivery === guid)
  return { reply, attempts: program.logs.filter((line) => line["delivery"] === guid && line["backend"] !== undefined) }
}

/** The log line of an attempt, written already or yet to come. */
export const attemptLogged = (program: Program, backend: string) =>
  program.logged((line) => line["backend"] === backend && line["outcome"] !== undefined)

/** A backend that gets the bare connection. */
export const startRawBackend = (
  connected: (socket: Net.Socket) => void
): Effect.Effect<{ readonly url: string; readonly host: string }, never, Scope.Scope> =>
  Effect.map(
    Effect.suspend(() => listen(Net.createServer({ noDelay: true }, connected))),
    (port) => ({ url: `http://127.0.0.1:${port}`, host: `127.0.0.1:${port}` })
  )

/** A port on which nobody listens. */
export const closedPort = Effect.scoped(Effect.suspend(() => listen(Net.createServer())))

export interface Relay {
  readonly port: number
  /** From now on connections are passed on to this port. Those that came before wait until then. */
  readonly leadTo: (port: number) => void
  /** How many requests came through. */
  readonly requests: () => number
}

/** Passes connections on, so that a backend's URL can be known before its port is. Counts `POST` requests. */
export const startRelay: Effect.Effect<Relay, never, Scope.Scope> = Effect.suspend(() => {
  const target = Promise.withResolvers<number>()
  const onward = new Set<Net.Socket>()
  let requests = 0
  const server = Net.createServer(async (socket) => {
    const other = Net.connect(await target.promise, "127.0.0.1")
    onward.add(other)
    socket.on("error", () => other.destroy()).on("data", (chunk) => {
      requests += chunk.toString("latin1").split("POST /").length - 1
    })
    other.on("error", () => socket.destroy())
    socket.pipe(other)
    other.pipe(socket)
  })
  return Effect.map(
    Effect.andThen(
      Effect.addFinalizer(() => Effect.sync(() => onward.forEach((socket) => socket.destroy()))),
      listen(server)
    ),
    (port) => ({ port, leadTo: target.resolve, requests: () => requests })
  )
})
