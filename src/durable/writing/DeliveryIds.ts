/**
 * Makes the ids of deliveries. They are UUIDv7s of the system's random bytes, which are drawn some hundred ids ahead:
 * an id that draws its own bytes takes four times as long.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { make } from "effect/crypto/SecureRandom"
import { randomFillSync } from "node:crypto"

export class DeliveryIds extends Context.Service<DeliveryIds, {
  /** Ids of one process sort in the order in which they were made. */
  readonly next: () => string
}>()("sprayproxy/durable/writing/DeliveryIds") {
  static readonly layer = Layer.sync(DeliveryIds, () => {
    const next = make(drawnAhead()).uuidV7()
    return DeliveryIds.of({ next: () => Effect.runSync(next) })
  })
}

/** Bytes. */
const drawnAtOnce = 8 * 1024

/** Each byte is handed out once, and not kept. */
const drawnAhead = () => {
  const drawn = new Uint8Array(drawnAtOnce)
  let at = drawnAtOnce
  return (size: number): Uint8Array => {
    if (at + size > drawnAtOnce) {
      randomFillSync(drawn)
      at = 0
    }
    const bytes = drawn.slice(at, at + size)
    drawn.fill(0, at, at + size)
    at += size
    return bytes
  }
}
