/**
 * Whether a backend is worth an attempt: after failures in a row it is left alone, and then probed.
 *
 * **Details**
 *
 * Five failures in a row open a breaker. One probe is let through after 1 s, and after each that fails the wait doubles, up
 * to 15 s; a success closes it. Only where deliveries are on disk: elsewhere an attempt that is not made is a loss.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Backend } from "./Backend.ts"
import { Settings } from "./Settings.ts"
import { Timers } from "./Timers.ts"

export class BackendBreakers extends Context.Service<BackendBreakers, {
  /** Whether an attempt may begin now. While the breaker is open, true makes that attempt the probe. */
  readonly admits: (backend: Backend) => boolean
  readonly isClosed: (backend: Backend) => boolean
  /** How an attempt has ended. */
  readonly ended: (backend: Backend, success: boolean) => void
  /** An attempt that was admitted was not made. */
  readonly notMade: (backend: Backend) => void
}>()("sprayproxy/BackendBreakers") {
  static readonly layer = Layer.effect(
    BackendBreakers,
    Effect.gen(function*() {
      const timers = yield* Timers
      const { forwardingTimeout } = yield* Settings
      const longestProbe = Duration.toMillis(forwardingTimeout) + 5_000
      const breakers = new WeakMap<Backend, Breaker>()
      const breakerOf = (backend: Backend): Breaker => {
        let breaker = breakers.get(backend)
        if (breaker === undefined) breakers.set(backend, breaker = new Breaker(longestProbe))
        return breaker
      }
      return BackendBreakers.of({
        admits: (backend) => breakerOf(backend).admits(timers.now()),
        isClosed: (backend) => breakerOf(backend).isClosed,
        ended: (backend, success) => breakerOf(backend).ended(success, timers.now()),
        notMade: (backend) => breakerOf(backend).notMade()
      })
    })
  )
}

const failuresToOpen = 5
const firstWait = 1_000
const longestWait = 15_000

class Breaker {
  #failures = 0
  #wait = firstWait
  /** On `Timers.now`: when the next probe may begin. Undefined: closed. */
  #probeAt: number | undefined
  /** Until when a probe that is under way keeps others out. */
  #probingUntil = 0
  readonly #longestProbe: number

  constructor(longestProbe: number) {
    this.#longestProbe = longestProbe
  }

  get isClosed(): boolean {
    return this.#probeAt === undefined
  }

  admits(now: number): boolean {
    if (this.#probeAt === undefined) return true
    if (now < this.#probeAt || now < this.#probingUntil) return false
    this.#probingUntil = now + this.#longestProbe
    return true
  }

  notMade(): void {
    this.#probingUntil = 0
  }

  ended(success: boolean, now: number): void {
    if (success) {
      this.#failures = 0
      this.#wait = firstWait
      this.#probeAt = undefined
      return
    }
    this.#failures += 1
    const isProbe = now < this.#probingUntil
    if (this.#failures < failuresToOpen || (this.#probeAt !== undefined && !isProbe)) return
    if (isProbe) this.#wait = Math.min(2 * this.#wait, longestWait)
    this.#probeAt = now + this.#wait
    this.#probingUntil = 0
  }
}
