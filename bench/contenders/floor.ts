/**
 * The floor: the same work with bare `node:http` and undici. It reads, computes the HMAC, compares, sends to every
 * backend with the same headers, and replies when all have answered. It has no framework and no limits, and logs and
 * metrics only with `logged`.
 *
 * Its arguments are `unlogged` or `logged`, the port, a PEM file with the trusted authorities, and the backends.
 */
import { createHmac, createSecretKey, randomUUID, timingSafeEqual } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import { createSecureContext } from "node:tls"
import { Agent, type Dispatcher } from "undici"
import { type DeliveryRecord, Records } from "./Records.ts"

const [mode, port, ca = "", ...backends] = process.argv.slice(2)
const key = createSecretKey(process.env["GH_APP_WEBHOOK_SECRET"] ?? "", "utf8")
const via = `1.1 floor-${randomUUID()}`

const agent = new Agent({
  allowH2: false,
  keepAliveTimeout: 20_000,
  keepAliveMaxTimeout: 20_000,
  connect: { secureContext: createSecureContext({ ca: readFileSync(ca) }) }
})

const notForwarded = new Set([
  "host",
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
  "content-length"
])

const forwarded = (rawHeaders: ReadonlyArray<string>, length: number): Array<string> => {
  const headers: Array<string> = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!notForwarded.has(rawHeaders[i]!.toLowerCase())) headers.push(rawHeaders[i]!, rawHeaders[i + 1]!)
  }
  headers.push("Content-Length", String(length), "Via", via)
  return headers
}

const records = mode === "logged" ? new Records(backends) : undefined

const reply = (response: Http.ServerResponse, status: number, text: string, record: DeliveryRecord | undefined) => {
  const headers: Record<string, string | number> = { "Content-Type": "text/plain", "Content-Length": text.length }
  if (record !== undefined) headers["X-Request-Id"] = record.requestId
  response.writeHead(status, headers).end(text)
  record?.answered(status, text)
}

const spray = (
  request: Http.IncomingMessage,
  body: Buffer,
  response: Http.ServerResponse,
  record: DeliveryRecord | undefined
) => {
  const headers = forwarded(request.rawHeaders, body.length)
  let left = backends.length
  let failed = false
  const ended = () => {
    if (--left === 0) reply(response, failed ? 502 : 200, failed ? "failed to proxy" : "proxied", record)
  }
  const handler = (onEnd: (status: number) => void): Dispatcher.DispatchHandler => {
    let answer = 0
    return {
      onRequestStart() {},
      onResponseStart(_controller, status) {
        answer = status
        if (status >= 300) failed = true
      },
      onResponseData() {},
      onResponseEnd: () => onEnd(answer),
      onResponseError() {
        failed = true
        onEnd(0)
      }
    }
  }
  // Without logs and metrics, attempts need not be told apart.
  const shared = record === undefined ? handler(ended) : undefined
  for (const [place, origin] of backends.entries()) {
    record?.began()
    const own = shared ?? handler((status) => {
      record?.attempted(place, status)
      ended()
    })
    agent.dispatch({ origin, path: "/", method: "POST", headers, body }, own)
  }
}

const server = Http.createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
  if (records !== undefined && request.url === "/metrics") return void response.end(records.metrics())
  const record = records?.delivery(request)
  const mac = createHmac("sha256", key)
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => {
    mac.update(chunk)
    chunks.push(chunk)
  })
  request.on("end", () => {
    const signature = Buffer.from(String(request.headers["x-hub-signature-256"]).slice("sha256=".length), "hex")
    const digest = mac.digest()
    if (signature.length !== digest.length || !timingSafeEqual(signature, digest)) {
      return reply(response, 400, "bad request", record)
    }
    spray(request, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks), response, record)
  })
})

server.listen(Number(port), "127.0.0.1")
