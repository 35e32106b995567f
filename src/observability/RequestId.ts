/** The id that ties a reply to its log lines and spans. */
import { randomUUID } from "node:crypto"
import { type IncomingMessage, ServerResponse } from "node:http"

export const newRequestId = (): string => randomUUID()

/** The id that this request's reply carries. */
export const requestIdOf = (response: ServerResponse): string =>
  response instanceof IdentifiedResponse ? response.requestId : ""

/** A reply that has an id from its beginning. */
export class IdentifiedResponse<Request extends IncomingMessage> extends ServerResponse<Request> {
  readonly requestId = newRequestId()
}
