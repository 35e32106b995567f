/**
 * Outcomes that wait for the store, in their order. Nobody waits for them, and they are kept until the store has them.
 *
 * **Details**
 *
 * - Each gets its number here, once: one that is written again, because nobody knows whether it was, counts once.
 * - Fewer are taken at a time after each failure: what is too much at once for a slow store is not for ever.
 */
import { randomInt } from "node:crypto"
import type { NumberedSettlement, Settlement } from "../store/contract/Row.ts"

export class SettlementQueue {
  #waiting: Array<NumberedSettlement> = []
  #mostTaken = mostAtOnce
  // Attempts of one row differ in their numbers, those of other processes too.
  #n = randomInt(2 ** 47)

  get length(): number {
    return this.#waiting.length
  }

  /** As many wait as are taken at a time. */
  get isFull(): boolean {
    return this.#waiting.length >= this.#mostTaken
  }

  /** False: too many wait, and the oldest is dropped. */
  add(settlement: Settlement): boolean {
    const hasRoom = this.#waiting.length < mostWaiting
    if (!hasRoom) this.#waiting.shift()
    this.#waiting.push({ ...settlement, n: this.#n += 1 })
    return hasRoom
  }

  take(): ReadonlyArray<NumberedSettlement> {
    return this.#waiting.splice(0, this.#mostTaken)
  }

  /** What was taken has been written. */
  written(): void {
    this.#mostTaken = Math.min(mostAtOnce, 2 * this.#mostTaken)
  }

  /** What was taken has not been written, or perhaps. */
  putBack(settlements: ReadonlyArray<NumberedSettlement>): void {
    this.#waiting = [...settlements, ...this.#waiting]
    this.#mostTaken = Math.max(1, Math.floor(this.#mostTaken / 2))
  }
}

/** In one transaction. */
const mostAtOnce = 1_000

/** While the store is down; each is some hundred bytes, or a kilobyte with an answer. */
const mostWaiting = 20_000
