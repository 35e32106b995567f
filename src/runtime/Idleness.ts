import * as Effect from "effect/Effect"

/** Lets others wait until nothing is under way. `isIdle` says whether that is so. */
export class Idleness {
  readonly #isIdle: () => boolean
  readonly #waiting = new Set<() => void>()

  constructor(isIdle: () => boolean) {
    this.#isIdle = isIdle
  }

  /** To be called when something has ended. */
  check(): void {
    if (this.#waiting.size === 0 || !this.#isIdle()) return
    for (const resume of this.#waiting) resume()
  }

  /** Succeeds at once if nothing is under way. */
  readonly await: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#isIdle()) return resume(Effect.void)
    const listener = () => {
      this.#waiting.delete(listener)
      resume(Effect.void)
    }
    this.#waiting.add(listener)
    return Effect.sync(() => this.#waiting.delete(listener))
  })
}
