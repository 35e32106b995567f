/** The id that ties a reply to its log lines and spans. */
import { randomUUID } from "node:crypto"
import { type IncomingMessage, ServerResponse } from "node:http"

export const newRequestId = (): string => randomUUID()

/** The request id that a reply carries. Empty for a reply of a listener without ids. */
export const requestIdOf = (response: ServerResponse): string =>
  response instanceof IdentifiedResponse ? response.requestId : ""

/** A reply that has its request id from the beginning. */
export class IdentifiedResponse<Request extends IncomingMessage> extends ServerResponse<Request> {
  readonly requestId = newRequestId()
}
