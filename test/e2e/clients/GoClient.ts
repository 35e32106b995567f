/** A client in Go that registers backends, as net/http puts it on the wire. It has no timeout: it waits for ever. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Reply } from "../../support/GitHub.ts"

/**
 * Go sends a reader's bytes with their length if it knows that, else in chunks; whatever the method is. Without a reader
 * there is no body.
 */
export type Reader = "known" | "unknown" | undefined

export interface GoClient {
  readonly request: (method: string, url: string | undefined, reader?: Reader) => Promise<Reply>
  /** How many connections it has opened. */
  readonly opened: () => number
}

export const startGoClient = (base: string, token: string): Effect.Effect<GoClient, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { Agent, request: open } = base.startsWith("https:") ? Https : Http
    // A transport with a TLS configuration of its own does not speak HTTP/2.
    const agent = yield* Effect.acquireRelease(
      Effect.sync(() => new Agent({ keepAlive: true, maxSockets: 1, ...insecure })),
      (acquired) => Effect.sync(() => acquired.destroy())
    )
    const ports = new Set<number | undefined>()
    const request: GoClient["request"] = (method, url, reader = url === undefined ? undefined : "known") =>
      new Promise((resolve, reject) => {
        const body = reader === undefined ? "" : JSON.stringify({ url })
        const length = { known: ["Content-Length", String(body.length)], unknown: ["Transfer-Encoding", "chunked"] }
        // Its own, those of the body, those of the request by name, what it can unpack.
        const headers = ["Host", new URL(base).host, "User-Agent", "Go-http-client/1.1"]
        if (reader !== undefined) headers.push(...length[reader])
        headers.push("Authorization", `Bearer ${token}`, "Content-Type", "application/json; charset=utf-8")
        headers.push("Accept-Encoding", "gzip")
        const sent = open(`${base}/backends`, { method, agent, headers, setDefaultHeaders: false }, (response) => {
          ports.add(response.socket.localPort)
          let text = ""
          response.setEncoding("utf8").on("data", (part: string) => text += part).on("error", reject)
          response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, text }))
        })
        sent.on("error", reject).end(body)
      })
    return { request, opened: () => ports.size }
  })

/** It takes any certificate. */
const insecure = { rejectUnauthorized: false }

/** What it makes of the list. */
export const trimmed = ({ text }: Reply): string => text.replace(/^Backend urls:/, "")
