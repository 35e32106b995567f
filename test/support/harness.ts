/** The built program as a process of its own, clusters' backends as real servers, and GitHub as a real client. */
import { sign } from "@octokit/webhooks-methods"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import * as Http from "node:http"
import * as Net from "node:net"
import type { AddressInfo, Server as NetServer, Socket } from "node:net"
import { createInterface } from "node:readline"
import { text as textOf } from "node:stream/consumers"
import { fileURLToPath } from "node:url"

export const secret = "It's a Secret to Everybody"

/** The built program's file. */
export const programFile = fileURLToPath(new URL("../../dist/sprayproxy.js", import.meta.url))

export interface LogLine {
  readonly level: string
  readonly msg: string
  readonly [field: string]: unknown
}

export interface Program {
  readonly port: number
  readonly url: string
  readonly process: ChildProcess
  /** Every line that the program has logged so far. */
  readonly logs: ReadonlyArray<LogLine>
  /** Resolves with the first line, logged already or yet to come, that the predicate holds for. */
  readonly logged: (predicate: (line: LogLine) => boolean) => Promise<LogLine>
  readonly stderr: () => string
  readonly exit: Promise<number | null>
}

/** Starts the program on free loopback ports and waits until it listens. */
export const startProgram = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(
        process.execPath,
        [programFile, "server", "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", ...args],
        { env: { PATH: process.env["PATH"], GH_APP_WEBHOOK_SECRET: secret, ...env }, stdio: ["ignore", "pipe", "pipe"] }
      )
      const logs: Array<LogLine> = []
      const watchers = new Set<(line: LogLine) => void>()
      createInterface({ input: child.stdout! }).on("line", (text) => {
        const line = JSON.parse(text) as LogLine
        logs.push(line)
        for (const watcher of watchers) watcher(line)
      })
      let stderr = ""
      child.stderr!.on("data", (chunk) => stderr += String(chunk))
      const exit = once(child, "exit").then(([code]) => code as number | null)
      const logged = (predicate: (line: LogLine) => boolean) =>
        new Promise<LogLine>((resolve, reject) => {
          const found = logs.find(predicate)
          if (found !== undefined) return resolve(found)
          watchers.add((line) => predicate(line) && resolve(line))
          void exit.then(() => reject(new Error(`the program ended: ${stderr}`)))
        })
      const listening = await logged(({ msg }) => msg === "listening")
      const port = Number(listening["port"])
      return { port, url: `http://127.0.0.1:${port}`, process: child, logs, logged, stderr: () => stderr, exit }
    }),
    (program) =>
      Effect.promise(async () => {
        program.process.kill("SIGKILL")
        await program.exit
      })
  )

/** A request as a backend received it. */
export interface Received {
  readonly method: string
  readonly url: string
  readonly rawHeaders: ReadonlyArray<string>
  readonly headers: Http.IncomingHttpHeaders
  readonly body: Buffer
  /** Tells connections apart. */
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

/** Answers 202 as Pipelines-as-Code does, or what `answer` does. `answer` gets requests with their bodies read. */
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

/** Listens on a free loopback port until the scope closes; then its connections are ended too. */
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

export interface Reply {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
}

/** GitHub's headers for a delivery of `body`, signed by the second implementation. */
export const githubHeaders = async (
  body: string,
  event = "push",
  key = secret
): Promise<Record<string, string>> => ({
  "content-type": "application/json",
  "user-agent": "GitHub-Hookshot/044aadd",
  "x-github-delivery": randomUUID(),
  "x-github-event": event,
  "x-github-hook-id": "292430182",
  "x-hub-signature-256": await sign(key, body)
})

export interface SendOptions {
  readonly method?: string
  readonly path?: string
  readonly headers?: Record<string, string | Array<string>>
  readonly body?: string | Buffer
  readonly agent?: Http.Agent
}

/** One request, on a connection of its own unless an agent is given. */
export const send = (port: number, options: SendOptions = {}): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const { agent = false, body, headers, method = "POST", path = "/proxy" } = options
    const request = Http.request({
      port,
      host: "127.0.0.1",
      method,
      path,
      agent,
      headers: { ...(body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }), ...headers }
    })
    request.on("error", reject)
    request.on("response", (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("error", reject)
      response.on("end", () =>
        resolve({
          status: response.statusCode!,
          headers: response.headers,
          text: Buffer.concat(chunks).toString("utf8")
        }))
    })
    request.end(body)
  })

/** A delivery as GitHub sends it. */
export const deliver = async (port: number, body: string, options: SendOptions & { readonly event?: string } = {}) =>
  send(port, { ...options, body, headers: { ...await githubHeaders(body, options.event), ...options.headers } })

/** Resolves when `condition` holds, which it is asked every few milliseconds; rejects after 30 s. */
export const eventually = async (
  condition: () => boolean | Promise<boolean>,
  what = "the condition"
): Promise<void> => {
  const deadline = performance.now() + 30_000
  // oxlint-disable no-await-in-loop -- it polls
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`${what} did not come true within 30 s`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  // oxlint-enable no-await-in-loop
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end, the program as it is called unless another one is named. */
export const runToEnd = async (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  command: ReadonlyArray<string> = [process.execPath, programFile]
): Promise<Ended> => {
  const [file, ...before] = command
  const child = spawn(file!, [...before, ...args], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 30_000
  })
  const ended = once(child, "close")
  const [stdout, stderr] = await Promise.all([textOf(child.stdout), textOf(child.stderr)])
  const [code, signal] = await ended
  return { code, signal, stdout, stderr }
}

/** A client that says every byte itself. */
export interface RawConnection {
  readonly socket: Socket
  readonly write: (...parts: ReadonlyArray<string | Buffer>) => void
  /** Resolves when the system has taken all; rejects when the connection is closed before. */
  readonly sendAll: (bytes: string | Buffer) => Promise<void>
  /** Resolves with the first `count` replies, interim ones (1xx) too. Rejects when the connection closes before them. */
  readonly replies: (count: number) => Promise<ReadonlyArray<Reply>>
  /** Resolves when the connection is closed, with what came: a FIN, or a reset that may have overtaken the reply. */
  readonly closed: Promise<"ended" | "reset">
}

/** With `reading: false` nothing is read before the first call of `replies`. */
export const openConnection = (
  port: number,
  options: { readonly reading?: boolean } = {}
): Effect.Effect<RawConnection, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const socket = Net.connect({ port, host: "127.0.0.1" })
      let received = ""
      let closedWith: "ended" | "reset" | undefined
      const watchers = new Set<() => void>()
      const changed = () => {
        for (const watcher of watchers) watcher()
      }
      const startReading = () =>
        socket.on("data", (chunk: Buffer) => {
          received += chunk.toString("latin1")
          changed()
        })
      const closed = new Promise<"ended" | "reset">((resolve) => {
        let reset = false
        socket.on("error", () => reset = true).on("close", () => {
          closedWith = reset ? "reset" : "ended"
          changed()
          resolve(closedWith)
        })
      })
      await once(socket, "connect")
      if (options.reading !== false) startReading()
      return {
        socket,
        closed,
        write: (...parts) => {
          for (const part of parts) socket.write(part)
        },
        sendAll: (bytes) =>
          new Promise((resolve, reject) => socket.write(bytes, (error) => error == null ? resolve() : reject(error))),
        replies: (count) => {
          if (socket.listenerCount("data") === 0) startReading()
          return new Promise((resolve, reject) => {
            const check = () => {
              const replies = parseReplies(received)
              if (replies.length >= count) resolve(replies.slice(0, count))
              else if (closedWith !== undefined) reject(new Error(`${closedWith} after ${JSON.stringify(received)}`))
              else return
              watchers.delete(check)
            }
            watchers.add(check)
            check()
          })
        }
      } satisfies RawConnection
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

/** The complete replies at the start of what a connection has received; their bodies have a `Content-Length`. */
const parseReplies = (received: string): ReadonlyArray<Reply> => {
  const replies: Array<Reply> = []
  let at = 0
  for (;;) {
    const end = received.indexOf("\r\n\r\n", at)
    if (end < 0) return replies
    const [statusLine, ...lines] = received.slice(at, end).split("\r\n")
    const headers = Object.fromEntries(lines.map((line) => {
      const colon = line.indexOf(":")
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
    }))
    const bodyAt = end + 4
    const bodyEnd = bodyAt + Number(headers["content-length"] ?? 0)
    if (received.length < bodyEnd) return replies
    replies.push({ status: Number(statusLine!.split(" ")[1]), headers, text: received.slice(bodyAt, bodyEnd) })
    at = bodyEnd
  }
}
