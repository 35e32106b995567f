/**
 * The calls by which the path of a delivery is traced. They are callbacks, as attempts are. With tracing off, each of
 * them is only a check for `undefined`.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { DeliveryTrace } from "../../domain/Delivery.ts"

export class Tracing extends Context.Service<Tracing, {
  /** Undefined when tracing is off. */
  readonly begin: (request: IncomingMessage, response: ServerResponse) => DeliveryTrace | undefined
  /** The request that `response` belongs to is refused. `reason` is one of a small closed set. */
  readonly refused: (response: ServerResponse, reason: string) => void
}>()("sprayproxy/observability/telemetry/Tracing") {
  static readonly layerOff = Layer.succeed(Tracing, Tracing.of({ begin: () => undefined, refused: () => {} }))
}
