import type { Dispatcher } from "undici"

export interface OutgoingRequest {
  readonly origin: string
  readonly path: string
  readonly method: Dispatcher.HttpMethod
  /** A flat list of names and values. It is not changed any more. */
  readonly headers: Array<string>
  readonly body: Buffer
}

/** What sends requests; undici's dispatchers do. */
export interface Sender {
  readonly dispatch: (request: OutgoingRequest, handler: Dispatcher.DispatchHandler) => unknown
}
