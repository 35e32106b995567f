/** Requests as bytes, and the program that they are sent to. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHmac } from "node:crypto"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, type Reply, secret } from "../../support/GitHub.ts"
import { type LogLine, type Program, startProgram } from "../../support/Program.ts"
import { openConnection, type RawConnection } from "../../support/RawConnection.ts"

export const digest = (body: string | Buffer, key = secret) => createHmac("sha256", key).update(body).digest("hex")

export const signed = (body: string | Buffer, key = secret) => `X-Hub-Signature-256: sha256=${digest(body, key)}`

export const head = (guid: string, headers: ReadonlyArray<string>, target = "/proxy", method = "POST") =>
  [`${method} ${target} HTTP/1.1`, "Host: x", `X-GitHub-Delivery: ${guid}`, ...headers, "", ""].join("\r\n")

export const withLength = (guid: string, body: string, headers: ReadonlyArray<string> = [signed(body)]) =>
  head(guid, [...headers, `Content-Length: ${Buffer.byteLength(body)}`]) + body

const chunked = (body: string, size = 100) =>
  `${
    Array.from({ length: Math.ceil(body.length / size) }, (_, i) => body.slice(i * size, (i + 1) * size)).map((chunk) =>
      `${chunk.length.toString(16)}\r\n${chunk}\r\n`
    ).join("")
  }0\r\n\r\n`

export const withChunks = (guid: string, body: string, headers: ReadonlyArray<string> = [signed(body)]) =>
  head(guid, [...headers, "Transfer-Encoding: chunked"]) + chunked(body)

export const next = (connection: RawConnection, count = 1) =>
  Effect.map(Effect.promise(() => connection.replies(count)), (replies) => replies.at(-1)!)

export const ask = Effect.fnUntraced(function*(port: number, request: string) {
  const connection = yield* openConnection(port)
  connection.write(Buffer.from(request, "latin1"))
  return yield* next(connection)
}, Effect.scoped)

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

export const idOf = (reply: Reply) => {
  assert.match(String(reply.headers["x-request-id"]), uuid)
  return reply.headers["x-request-id"] as string
}

/** The log line of a request, by its reply. */
export const isOf = (reply: Reply) => (line: LogLine) => line["request-id"] === idOf(reply)

export const is = (reply: Reply, status: number, text: string) => {
  assert.deepInclude(reply, { status, text })
  idOf(reply)
}

export class Sprayproxy extends Context.Service<Sprayproxy, {
  readonly program: Program
  readonly port: number
  readonly backend: TestBackend
}>()("sprayproxy/test/e2e/webhook/Ingress/Sprayproxy") {
  static readonly layer = (args: ReadonlyArray<string> = [], env: Readonly<Record<string, string>> = {}) =>
    Layer.effect(
      Sprayproxy,
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const program = yield* startProgram(["--backend", backend.url, ...args], env)
        return { program, port: program.port, backend }
      })
    )
}

/** Whether the backend has got it; asked after a delivery that surely came later. */
export const isForwarded = Effect.fnUntraced(function*(guid: string) {
  const { backend, port } = yield* Sprayproxy
  is(yield* Effect.promise(() => deliver(port, "{}")), 200, "proxied")
  return backend.received.some(({ headers }) => headers["x-github-delivery"] === guid)
})
