/**
 * Notes for the store of dynamic backends that begin to fail, or where a delivery has arrived again.
 *
 * **Details**
 *
 * - The notes of one backend are written one after another. An arrival is always written, because it ends what the store
 *   has of earlier failures.
 * - A note that the store has not taken waits for `writeAll`. Till then this process knows better than the store.
 */
import * as Effect from "effect/Effect"
import type { DeliveryStore } from "../store/DeliveryStore.ts"
import type { StoreUnavailable } from "../store/contract/Unavailable.ts"

interface Note {
  readonly hasArrived: boolean
  readonly isFailing: boolean
}

export class FailureNotes {
  readonly #store: DeliveryStore["Service"]
  readonly #waiting = new Map<string, Note>()
  readonly #underWay = new Set<string>()
  /** Backends with a note that was written since the last read of the store began. */
  readonly #written = new Set<string>()

  constructor(store: DeliveryStore["Service"]) {
    this.#store = store
  }

  /** A read of the store begins. */
  begin(): void {
    this.#written.clear()
  }

  /** Whether the store may not have said the latest of this backend. */
  has(key: string): boolean {
    return this.#waiting.has(key) || this.#underWay.has(key) || this.#written.has(key)
  }

  add(key: string, isFailing: boolean): void {
    const hasArrived = !isFailing || this.#waiting.get(key)?.hasArrived === true
    this.#waiting.set(key, { hasArrived, isFailing })
  }

  /** Writes what waits for one backend, unless it is being written already. */
  readonly write = (key: string): Effect.Effect<void, StoreUnavailable> =>
    Effect.suspend(() => {
      if (this.#underWay.has(key)) return Effect.void
      this.#underWay.add(key)
      return Effect.ensuring(
        this.#writeNext(key),
        Effect.sync(() => {
          this.#underWay.delete(key)
          this.#written.add(key)
        })
      )
    })

  readonly writeAll: Effect.Effect<void, StoreUnavailable> = Effect.suspend(() =>
    Effect.forEach([...this.#waiting.keys()], this.write, { discard: true })
  )

  #writeNext(key: string): Effect.Effect<void, StoreUnavailable> {
    const note = this.#waiting.get(key)
    if (note === undefined) return Effect.void
    const arrived = note.hasArrived ? this.#store.noteFailing(key, false) : Effect.void
    const failing = note.isFailing ? this.#store.noteFailing(key, true) : Effect.void
    return Effect.andThen(
      Effect.andThen(arrived, failing),
      Effect.suspend(() => {
        if (this.#waiting.get(key) === note) this.#waiting.delete(key)
        return this.#writeNext(key)
      })
    )
  }
}
