/**
 * A reply of the public listener. It carries its request id, and knows when its sender has closed its side.
 *
 * **Details**
 *
 * A client that has closed its side gets the replies that are due, and then its connection ends. It can't be told from
 * a client that has gone, until a reply to it is answered with a reset.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import { IdentifiedResponse } from "../observability/RequestId.ts"
import type { Member } from "../runtime/LiveSet.ts"

export const requestIdHeader = "X-Request-Id"

/** Every reply has its id, even one that Node gives by itself (no `Host`, an unknown `Expect`). */
export class PublicResponse<Request extends IncomingMessage> extends IdentifiedResponse<Request> implements Member {
  place = -1
  #senderClosed = false
  #whenSenderClosed: (() => void) | undefined

  onSenderClosed(): void {
    this.#senderClosed = true
    if (!this.writableEnded) this.#whenSenderClosed?.()
  }

  whenSenderClosed(f: () => void): void {
    this.#whenSenderClosed = f
    if (this.#senderClosed) f()
  }

  /**
   * Every head is written here, Node's own too. The id is not set as a header before, because Node then takes the slow
   * way for all headers.
   */
  override writeHead(status: number, ...rest: ReadonlyArray<unknown>): this {
    // Effect's server turns this on. Node then sends an empty string after the body: a `writev` and a tick more.
    this.strictContentLength = false
    const headers = rest.at(-1)
    const identified: Array<unknown> = []
    if (Array.isArray(headers)) {
      identified.push(...headers)
    } else if (typeof headers === "object") {
      for (const name in headers) identified.push(name, (headers as Record<string, unknown>)[name])
    }
    identified.push(requestIdHeader, this.requestId)
    const phrase = typeof rest[0] === "string" ? rest[0] : undefined
    const writeHead = super.writeHead as (...args: ReadonlyArray<unknown>) => unknown
    writeHead.call(this, status, phrase, identified)
    return this
  }
}

/** Calls `f` when this request's sender has closed its side before its reply is out. */
export const onSenderClosed = (response: ServerResponse, f: () => void): void => {
  if (response instanceof PublicResponse) response.whenSenderClosed(f)
}

/** Tells the reply that is under way on a connection when its sender has closed its side. */
export const tellSenderClosed = (socket: ClientSocket): void => {
  socket.once("end", () => {
    const response = socket[currentResponse]
    if (response instanceof PublicResponse) response.onSenderClosed()
  })
}

/**
 * The property in which Node keeps the response that a socket is busy with. Node's own default listener looks there
 * too.
 */
export const currentResponse = "_httpMessage"

/** A connection of the public listener. */
export type ClientSocket = Socket & { readonly [currentResponse]?: ServerResponse | null }
