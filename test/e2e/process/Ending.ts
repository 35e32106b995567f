/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import * as Effect from "effect/Effect"
import type { ServerResponse } from "node:http"
import { connect, type Socket } from "node:net"
import { startBackend } from "../../support/Backend.ts"
import { githubHeaders } from "../../support/GitHub.ts"
import type { Program } from "../../support/Program.ts"

/** Call it before the program is told to stop: the exit code, when all that it has logged is here too. */
export const ending = (program: Program): Promise<number | null> =>
  new Promise((resolve) => program.process.once("close", (code) => resolve(code)))

export const shuttingDown = (program: Program) => program.logged(({ msg }) => msg === "shutting down")

export const bodyOf = (number: number) => JSON.stringify({ number })

export const bodies = (count: number) => Array.from({ length: count }, (_, number) => bodyOf(number))

/** A backend that answers nothing until it is told to, and then everything. */
export const startHeldBackend = Effect.gen(function*() {
  const held: Array<ServerResponse> = []
  let released = false
  const backend = yield* startBackend((_, response) => {
    if (released) response.writeHead(202).end()
    else held.push(response)
  })
  const release = () => {
    released = true
    for (const response of held.splice(0)) response.writeHead(202).end()
  }
  return { ...backend, release }
})

export const isListening = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1")
    socket.once("error", () => resolve(false))
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
  })

export const rawDelivery = async (body: string) => {
  const headers = Object.entries(await githubHeaders(body)).map(([name, value]) => `${name}: ${value}\r\n`)
  return `POST /proxy HTTP/1.1\r\nhost: x\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${headers.join("")}\r\n`
}

export interface RawConnection {
  readonly socket: Socket
  readonly text: () => string
  /** Resolves with all that came until the connection was closed, and whether it was reset. */
  readonly closed: Promise<{ readonly text: string; readonly reset: boolean }>
}

export const rawConnection = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<RawConnection>((resolve, reject) => {
        const socket = connect(port, "127.0.0.1")
        const chunks: Array<Buffer> = []
        let reset = false
        const text = () => Buffer.concat(chunks).toString()
        socket.on("data", (chunk) => chunks.push(chunk))
        socket.on("error", (error) => {
          reset = true
          reject(error)
        })
        const closed = new Promise<{ text: string; reset: boolean }>((resolveClosed) => {
          socket.on("close", () => resolveClosed({ text: text(), reset }))
        })
        socket.on("connect", () => resolve({ socket, text, closed }))
      })
    ),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )
