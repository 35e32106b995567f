/** A real client that sends as GitHub does. */
import { sign } from "@octokit/webhooks-methods"
import { randomUUID } from "node:crypto"
import * as Http from "node:http"
import { hookIdentity, secret } from "./github/Headers.ts"

export { secret } from "./github/Headers.ts"

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
  "x-github-hook-id": hookIdentity.hookId,
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
