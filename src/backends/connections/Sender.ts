import type { Dispatcher } from "undici"

/** A request to a backend, as undici takes it. */
export interface OutgoingRequest {
  readonly origin: string
  readonly path: string
  readonly method: Dispatcher.HttpMethod
  /** A flat list of names and values. Nobody changes it any more. */
  readonly headers: Array<string>
  readonly body: Buffer
}

/** Sends requests. undici's dispatchers are senders. */
export interface Sender {
  readonly dispatch: (request: OutgoingRequest, handler: Dispatcher.DispatchHandler) => unknown
}
