/**
 * The lane of one backend, which all attempts on it share: its permits, the attempts that wait for one, and how far the
 * backend is behind the others.
 *
 * **Details**
 *
 * A backend that is behind with many deliveries gives way, so that it can't use up the others' memory by hanging. Its
 * oldest attempts that still wait, for a permit or for a retry, end then. A backend that is merely slow goes on
 * draining.
 */
import type { Sender } from "../backends/connections/Sender.ts"
import type { Backend } from "../domain/Backend.ts"
import type { CancelTimer, Timers } from "../runtime/Timers.ts"

/** The limits of one lane. */
export interface LaneLimits {
  /** The number of permits. */
  readonly concurrency: number
  /** Bytes of memory. A backend that hangs may not be behind with more. */
  readonly behindBytes: number
}

/** An attempt that waits in a lane. */
export interface Waiting {
  /** Called with a permit. `giveBack` takes it back. */
  readonly send: () => void
  readonly isBehindSince: (time: number) => boolean
  readonly giveWay: () => void
}

/** The most deliveries with which a backend may be behind while it hangs. `behindBytes` limits their memory. */
const behindDeliveries = 500

/** Milliseconds without any answer after which a backend hangs. */
const hangingAfter = 1_000

/**
 * Milliseconds for which an attempt may be behind even if its backend answers now and then. After that it gives way to
 * newer deliveries.
 */
const longestBehind = 5_000

/** One backend's permits, and the attempts that wait for one. */
export class Lane {
  readonly backend: Backend
  readonly dispatcher: Sender
  readonly #limits: LaneLimits
  readonly timers: Timers["Service"]
  #active = 0
  #behindCount = 0
  #behindBytes = 0
  #answeredAt: number
  #cancelCheck: CancelTimer | undefined
  readonly #waiting = new Set<Waiting>()
  /** The attempts that wait for a retry. */
  readonly #resting = new Set<Waiting>()

  constructor(
    backend: Backend,
    dispatcher: Sender,
    limits: LaneLimits,
    timers: Timers["Service"]
  ) {
    this.backend = backend
    this.dispatcher = dispatcher
    this.#limits = limits
    this.timers = timers
    this.#answeredAt = timers.now()
  }

  /** Sends now if a permit is free, else when one is given back. */
  acquire(attempt: Waiting): void {
    if (this.#active < this.#limits.concurrency && this.#waiting.size === 0) {
      this.#active += 1
      attempt.send()
    } else {
      this.#waiting.add(attempt)
    }
  }

  /** Acquires a permit after `delay` milliseconds. */
  acquireAfter(attempt: Waiting, delay: number): () => void {
    this.#resting.add(attempt)
    return this.timers.after(delay, () => {
      this.#resting.delete(attempt)
      this.acquire(attempt)
    })
  }

  leave(attempt: Waiting): void {
    if (this.#waiting.size > 0) this.#waiting.delete(attempt)
    if (this.#resting.size > 0) this.#resting.delete(attempt)
  }

  answered(now: number): void {
    this.#answeredAt = now
  }

  /** Takes a permit back. */
  giveBack(): void {
    if (this.#waiting.size === 0) {
      this.#active -= 1
      return
    }
    // undici has the connection free only in the turn after the next. A request before that would open another one.
    setImmediate(() =>
      setImmediate(() => {
        this.#active -= 1
        this.#serve()
      })
    )
  }

  /** Gives free permits to the attempts that have waited longest. */
  #serve(): void {
    for (const next of this.#waiting) {
      if (this.#active >= this.#limits.concurrency) return
      this.#waiting.delete(next)
      this.#active += 1
      next.send()
    }
  }

  behind(bytes: number): void {
    this.#behindCount += 1
    this.#behindBytes += bytes
    this.#checkBehind()
  }

  notBehind(bytes: number): void {
    this.#behindCount -= 1
    this.#behindBytes -= bytes
    if (!this.#isTooFarBehind()) this.#cancelCheck?.()
  }

  #isTooFarBehind(): boolean {
    return this.#behindCount > behindDeliveries || this.#behindBytes > this.#limits.behindBytes
  }

  #checkBehind(): void {
    const now = this.timers.now()
    this.#giveWay(this.#resting, now)
    this.#giveWay(this.#waiting, now)
    this.#cancelCheck?.()
    // Looks again later by itself: once the memory is full, no delivery comes that would bring the next look.
    if (this.#isTooFarBehind()) this.#cancelCheck = this.timers.after(hangingAfter, () => this.#checkBehind())
  }

  #giveWay(attempts: Iterable<Waiting>, now: number): void {
    for (const oldest of attempts) {
      if (!this.#isTooFarBehind()) return
      const hangs = this.#answeredAt <= now - hangingAfter || this.#behindBytes > 2 * this.#limits.behindBytes
      if (!oldest.isBehindSince(now - (hangs ? hangingAfter : longestBehind))) return
      oldest.giveWay()
    }
  }
}
