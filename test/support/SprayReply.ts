import * as Effect from "effect/Effect"
import type { Delivery } from "../../src/domain/Delivery.ts"
import type { SprayResult } from "../../src/forwarding/Reply.ts"
import type { Spray } from "../../src/forwarding/Spray.ts"
import type { Reservation } from "../../src/runtime/MemoryBudget.ts"

/**
 * The reply to a delivery, awaited as its request would: with a reservation that is released when nothing is under way.
 */
export const replyOf = (
  spray: Spray["Service"],
  delivery: Delivery,
  reservation: Reservation,
  deadline: number
): Effect.Effect<SprayResult | "gone", "overloaded"> =>
  Effect.callback((resume) => {
    const leave = spray.spray(delivery, reservation, deadline, {
      replied: (result) => resume(result === "overloaded" ? Effect.fail(result) : Effect.succeed(result)),
      ended: () => reservation.release(),
      died: (defect) => {
        reservation.release()
        resume(Effect.die(defect))
      }
    })
    return Effect.sync(leave)
  })
