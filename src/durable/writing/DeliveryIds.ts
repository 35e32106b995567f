/**
 * Makes the ids of deliveries. They are UUIDv7s of the system's random bytes, which are drawn some hundred ids ahead:
 * drawn one by one they took a fiftieth of the main thread's time.
 */
import * as Layer from "effect/Layer"
import { make, SecureRandom } from "effect/crypto/SecureRandom"
import { randomFillSync } from "node:crypto"

/** Bytes. */
const drawnAtOnce = 8 * 1024

/** Each byte is handed out once, and not kept. */
const drawnAhead = () => {
  const drawn = new Uint8Array(drawnAtOnce)
  let at = drawnAtOnce
  return (size: number): Uint8Array => {
    if (size > drawnAtOnce) return randomFillSync(new Uint8Array(size))
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

export const layer: Layer.Layer<SecureRandom> = Layer.sync(SecureRandom, () => make(drawnAhead()))
