/**
 * What the path of a delivery tells about itself while tracing is on. Callbacks, as attempts are: with tracing off, all
 * of it is one check for `undefined`.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { DeliveryTrace } from "../../domain/Delivery.ts"

export class Tracing extends Context.Service<Tracing, {
  /** Undefined when tracing is off. */
  readonly begin: (request: IncomingMessage, response: ServerResponse) => DeliveryTrace | undefined
  /** The delivery that `response` belongs to is refused; `reason` is one of a small set. */
  readonly refused: (response: ServerResponse, reason: string) => void
}>()("sprayproxy/observability/telemetry/Tracing") {
  static readonly layerOff = Layer.succeed(Tracing, Tracing.of({ begin: () => undefined, refused: () => {} }))
}
