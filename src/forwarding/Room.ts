/** The memory that a delivery is charged beside its body, and the wait for it. */
import type { Backend } from "../domain/Backend.ts"
import type { Reservation } from "../runtime/MemoryBudget.ts"
import type { Timers } from "../runtime/Timers.ts"

/** Bytes for the request, timers and log lines of a delivery, and for each of its attempts. */
const deliveryBytes = 32 * 1024
const backendBytes = 4 * 1024

/** The bytes that a delivery to these backends is charged beside its body. */
export const chargeOf = (backends: ReadonlyArray<Backend>): number => deliveryBytes + backendBytes * backends.length

/** Calls `then` when there is room, or `late` at `deadline`. */
export const whenRoom = (
  reservation: Reservation,
  deadline: number,
  timers: Timers["Service"],
  then: () => void,
  late: () => void
): void => {
  const cancelDeadline = timers.after(Math.max(0, deadline - timers.now()), () => {
    leaveQueue()
    late()
  })
  const leaveQueue = reservation.wait(0, () => {
    cancelDeadline()
    then()
  })
}
