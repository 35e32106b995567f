/** The id that ties a reply to its log lines and spans. */
import { randomUUID } from "node:crypto"
import { type IncomingMessage, ServerResponse } from "node:http"

/** A new request id, for a reply or for an answer to what is no request. */
export const newRequestId = (): string => randomUUID()

/** The request id that a reply carries. Empty for a reply of a listener without ids. */
export const requestIdOf = (response: ServerResponse): string =>
  response instanceof IdentifiedResponse ? response.requestId : ""

/** A reply that has its request id from the beginning. */
export class IdentifiedResponse<Request extends IncomingMessage> extends ServerResponse<Request> {
  readonly requestId = newRequestId()
}
