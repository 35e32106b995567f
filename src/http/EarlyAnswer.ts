/**
 * Answers a request whose body nobody will read.
 *
 * **Details**
 *
 * Closing a connection with unread data resets it, and the reset can overtake the answer (RFC 9112 §9.6). Behind a
 * reverse proxy such a 413 arrives as a 502. So the whole answer goes out first, and what still comes in is discarded
 * for a while before the connection is closed.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type { IncomingMessage, ServerResponse } from "node:http"
import { plainText } from "./PlainText.ts"

const discardedBytes = 32 * 1024 * 1024
const discardedMillis = 2_000

/** Effect's server reads an unread body of at most this size to its end, and keeps the connection. */
const readToTheEndBytes = 256 * 1024

/** Answers `request` in plain text. Succeeds when the rest of the body is dealt with. */
export const answerEarly = (
  request: HttpServerRequest,
  status: number,
  text: string,
  headers?: Readonly<Record<string, string>>
): Effect.Effect<HttpServerResponse> => leaveUnread(request, plainText(status, text, headers))

/** The same for an answer that is made already. Its body must be in memory. */
export const leaveUnread = (
  request: HttpServerRequest,
  answer: HttpServerResponse
): Effect.Effect<HttpServerResponse> => {
  const incoming = NodeHttpServerRequest.toIncomingMessage(request) as IncomingMessage
  const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
  const { "content-length": announced, "transfer-encoding": transferEncoding } = incoming.headers
  const isShort = transferEncoding === undefined && Number(announced ?? 0) <= readToTheEndBytes &&
    incoming.headers["expect"] === undefined && answer.status !== 408
  if (incoming.complete || incoming.destroyed || isShort) return Effect.succeed(answer)
  return Effect.callback((resume) => {
    let discarded = 0
    const end = () => {
      clearTimeout(timer)
      incoming.off("data", onData).off("end", end).off("close", end).pause()
      outgoing.end()
      resume(Effect.succeed(answer))
    }
    const onData = (chunk: Buffer) => {
      discarded += chunk.length
      if (discarded > discardedBytes) end()
    }
    const timer = setTimeout(end, discardedMillis)
    outgoing.writeHead(answer.status, { ...answer.headers, connection: "close" })
    if (Predicate.isTagged(answer.body, "Uint8Array")) outgoing.write(answer.body.body)
    incoming.on("data", onData).on("end", end).on("close", end)
    incoming.resume()
    return Effect.sync(end)
  })
}
