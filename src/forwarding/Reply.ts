/** What the sender of a delivery is told, and when. */
import type { CancelTimer, Timers } from "../runtime/Timers.ts"

/**
 * `proxied`: every backend has it. `failed`: at least one does not. `accepted`: the delivery is on disk, or, in direct mode,
 * the reply was due before the outcomes were known. `forwarding`: that, where `accepted` would promise that it is on disk.
 */
export type SprayResult = "proxied" | "failed" | "accepted" | "forwarding"

/** Whose delivery is sprayed. */
export interface SprayObserver {
  /**
   * What the reply is. Called once: with `overloaded` where there was no memory until the reply was due and nothing was
   * attempted, with `gone` where nobody waits for what becomes of the attempts that have begun.
   */
  readonly replied: (result: SprayResult | "overloaded" | "gone") => void
  /** Nothing of the delivery is under way, and its memory can be given back. Called once. */
  readonly ended: () => void
}

/** Attempts that come to something together. */
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

  /** Once, with what the attempts come to, or with `late` where that is not known in time. */
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

  /** Nobody waits any more for what the attempts come to; whether they begin is still told. */
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
