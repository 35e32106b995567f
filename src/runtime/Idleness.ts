import * as Effect from "effect/Effect"

/** Those who wait until nothing is under way. */
export class Idleness {
  readonly #isIdle: () => boolean
  readonly #waiting = new Set<() => void>()

  constructor(isIdle: () => boolean) {
    this.#isIdle = isIdle
  }

  /** Something has ended. */
  check(): void {
    if (this.#waiting.size === 0 || !this.#isIdle()) return
    for (const resume of this.#waiting) resume()
  }

  /** Succeeds at once where nothing is under way. */
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
