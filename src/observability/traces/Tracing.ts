/**
 * What the path of a delivery tells about itself while tracing is on. Callbacks, as attempts are: with tracing off, all
 * of it is one check for `undefined`.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Backend } from "../../domain/Backend.ts"
import type { Delivery } from "../../domain/Delivery.ts"
import type { AttemptReport } from "../../forwarding/Forwarder.ts"

/** One delivery's trace. It ends by itself, when its response is closed. */
export interface DeliveryTrace {
  /** For log lines: 32 and 16 hex digits. */
  readonly traceId: string
  readonly spanId: string
  /** The body is about to be read. */
  readonly verifying: () => void
  readonly verified: (matches: boolean) => void
  readonly attempt: (backend: Backend, delivery: Delivery) => AttemptTrace
}

export interface AttemptTrace {
  /** The delivery's headers as this backend gets them: with a trace context that names this attempt. */
  readonly headers: Array<string>
  /** Called once. */
  readonly end: (report: AttemptReport) => void
}

export class Tracing extends Context.Service<Tracing, {
  /** Undefined when tracing is off. */
  readonly begin: (request: IncomingMessage, response: ServerResponse) => DeliveryTrace | undefined
  /** The delivery that `response` belongs to is refused; `reason` is one of a small set. */
  readonly refused: (response: ServerResponse, reason: string) => void
}>()("sprayproxy/Tracing") {
  static readonly layerOff = Layer.succeed(Tracing, Tracing.of({ begin: () => undefined, refused: () => {} }))
}
