/** The reply to the sender of a delivery, and when it is given. */
import type { CancelTimer, Timers } from "../runtime/Timers.ts"

/**
 * `proxied`: every backend has the delivery. `failed`: at least one does not. `accepted`: the delivery is on disk, or,
 * in direct mode, the reply was due before the outcomes were known. `forwarding`: the reply was due before the outcomes
 * were known, and `accepted` would wrongly say that the delivery is on disk. `unmatched`: no backend wants the delivery.
 */
export type SprayResult = "proxied" | "failed" | "accepted" | "forwarding" | "unmatched"

/** Learns of the end of the attempts on a delivery. */
export interface EndObserver {
  /** Nothing of the delivery is under way, and its memory can be given back. Called once. */
  readonly ended: () => void
  /**
   * A defect has kept the delivery from beginning, whatever else it was told. Its memory can be given back. An exception
   * would end the process, or keep the caller from the other deliveries of its batch.
   */
  readonly died: (defect: unknown) => void
}

/** Gets the reply of a delivery that is sprayed. */
export interface SprayObserver extends EndObserver {
  /**
   * The reply is known. Called once. `overloaded`: there was no memory until the reply was due, and nothing was
   * attempted. `gone`: attempts have begun, and nobody waits for their outcomes.
   */
  readonly replied: (result: SprayResult | "overloaded" | "gone") => void
}

/** The attempts on one delivery, which have a result together. */
interface Settling {
  readonly onSettled: (reply: (result: SprayResult) => void) => void
}

/** The reply that one delivery is due. */
export class Reply {
  readonly observer: SprayObserver
  readonly deadline: number
  readonly #timers: Timers["Service"]
  #isAwaited = true
  #isGiven = false
  #hasBegun = false
  #cancelDeadline: CancelTimer | undefined

  constructor(observer: SprayObserver, deadline: number, timers: Timers["Service"]) {
    this.observer = observer
    this.deadline = deadline
    this.#timers = timers
  }

  /** Gives the result of the attempts once it is known, or `late` if it is not known in time. */
  await(attempts: Settling, late: SprayResult): void {
    this.#hasBegun = true
    if (!this.#isAwaited) return this.#tell("gone")
    const left = Math.max(0, this.deadline - this.#timers.now())
    this.#cancelDeadline = this.#timers.after(left, () => this.give(late))
    attempts.onSettled((result) => this.give(result))
  }

  give(result: SprayResult | "overloaded"): void {
    this.#tell(this.#isAwaited || result === "overloaded" ? result : "gone")
  }

  /** Nobody waits for the outcomes any more. A refusal for lack of memory is still told. */
  leave(): void {
    this.#isAwaited = false
    if (this.#hasBegun) this.#tell("gone")
  }

  #tell(result: SprayResult | "overloaded" | "gone"): void {
    if (this.#isGiven) return
    this.#isGiven = true
    this.#cancelDeadline?.()
    this.observer.replied(result)
  }
}
