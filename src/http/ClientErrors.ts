/** Answers what is no HTTP, and requests that come too slowly. */
import type { Server } from "node:http"
import type { Socket } from "node:net"
import { newRequestId, requestIdOf } from "../observability/RequestId.ts"
import type { RefusalLog } from "../observability/logs/RefusalLog.ts"
import { type ClientSocket, currentResponse, requestIdHeader } from "./PublicResponse.ts"

/** Replaces Node's own answers. */
export const answerClientErrors = (server: Server, refusals: RefusalLog["Service"]): void => {
  const failing = new WeakSet<Socket>()
  const onClientError = (error: NodeJS.ErrnoException, socket: ClientSocket): void => {
    if (error.code === "ERR_HTTP_REQUEST_TIMEOUT" && socket.bytesRead === 0) {
      // A proxy has opened this connection in advance. It may stay as long as a connection that has been used.
      socket.setTimeout(server.keepAliveTimeout)
      return
    }
    const before = socket[currentResponse]
    if (before?.req.complete === true && !socket.destroyed) {
      // The error ends the connection. But the requests before it were good, and get their replies first.
      if (!failing.has(socket)) before.once("close", () => onClientError(error, socket))
      failing.add(socket)
      return
    }
    const requestId = before == null ? newRequestId() : requestIdOf(before)
    const refused = answerClientError(error, socket, requestId)
    if (refused !== undefined) {
      refusals.refused(refused.reason, { "request-id": requestId, status: refused.status, error: error.code })
    }
  }
  server.on("clientError", onClientError)
}

const answerTo = (code: string | undefined) =>
  code === "ERR_HTTP_REQUEST_TIMEOUT"
    ? { status: 408, phrase: "Request Timeout", reason: "request timeout" }
    : code === "HPE_HEADER_OVERFLOW"
    ? { status: 431, phrase: "Request Header Fields Too Large", reason: "headers too large" }
    : { status: 400, phrase: "Bad Request", reason: "not http" }

/** Answers as Node would, but with a request id and without a reset. Undefined: there was nobody to answer. */
const answerClientError = (
  error: NodeJS.ErrnoException,
  socket: ClientSocket,
  requestId: string
): { readonly status: number; readonly reason: string } | undefined => {
  // This was answered already. All further bytes are discarded until the connection closes.
  if (socket.writableEnded && !socket.destroyed) return undefined
  const inTheBody = socket[currentResponse]?.req.complete === false
  const gone = error.code === "ECONNRESET" || (inTheBody && error.code === "HPE_INVALID_EOF_STATE")
  if (gone || !socket.writable || socket[currentResponse]?.headersSent === true) {
    socket.destroy()
    return undefined
  }
  const answer = answerTo(error.code)
  const text = answer.phrase.toLowerCase()
  socket.end(
    `HTTP/1.1 ${answer.status} ${answer.phrase}\r\nConnection: close\r\n${requestIdHeader}: ${requestId}\r\n` +
      `Content-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`
  )
  setTimeout(() => socket.destroy(), 500).unref()
  return answer
}
