import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** A lock for each key. Effects with the same key run one after the other, all others side by side. */
export class KeyedLock {
  readonly #byKey = new Map<string, { readonly semaphore: Semaphore.Semaphore; users: number }>()

  withLock<A, E, R>(key: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      let turn = this.#byKey.get(key)
      if (turn === undefined) this.#byKey.set(key, turn = { semaphore: Semaphore.makeUnsafe(1), users: 0 })
      const mine = turn
      mine.users += 1
      return Effect.ensuring(
        mine.semaphore.withPermit(effect),
        Effect.sync(() => {
          mine.users -= 1
          if (mine.users === 0) this.#byKey.delete(key)
        })
      )
    })
  }
}
