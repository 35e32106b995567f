import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import * as Net from "node:net"
import type { Reply } from "./GitHub.ts"

/** A client that chooses every byte itself. */
export interface RawConnection {
  readonly socket: Net.Socket
  readonly write: (...parts: ReadonlyArray<string | Buffer>) => void
  /** Resolves when the system has taken all bytes. Rejects if the connection is closed before. */
  readonly sendAll: (bytes: string | Buffer) => Promise<void>
  /** Resolves with the first `count` replies, interim ones (1xx) included. Rejects if the connection closes before. */
  readonly replies: (count: number) => Promise<ReadonlyArray<Reply>>
  /** Resolves when the connection is closed: by a FIN, or by a reset, which may have overtaken the reply. */
  readonly closed: Promise<"ended" | "reset">
}

/** With `reading: false`, nothing is read before the first call of `replies`. */
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

/**
 * The complete replies at the start of the bytes that a connection has received. Their bodies have a `Content-Length`.
 */
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
