/**
 * Settlements that wait for the store, in their order. Nobody waits for them, and they are kept until the store has
 * them.
 *
 * **Details**
 *
 * - Each settlement gets its number here, once. If it is written again, because nobody knows whether it was written, it
 *   counts once.
 * - After each failure fewer are taken at a time, so that a slow store is not given too much for ever.
 */
import { randomInt } from "node:crypto"
import type { NumberedSettlement, Settlement } from "../../store/contract/Row.ts"

export class SettlementQueue {
  #waiting: Array<NumberedSettlement> = []
  #mostTaken = mostAtOnce
  // Attempts on one row differ in their numbers, even if other processes made them.
  #n = randomInt(2 ** 47)

  get length(): number {
    return this.#waiting.length
  }

  /** As many settlements wait as are taken at a time. */
  get isFull(): boolean {
    return this.#waiting.length >= this.#mostTaken
  }

  /** False: too many wait, and the oldest was dropped. */
  add(settlement: Settlement): boolean {
    const hasRoom = this.#waiting.length < mostWaiting
    if (!hasRoom) this.#waiting.shift()
    this.#waiting.push({ ...settlement, n: this.#n += 1 })
    return hasRoom
  }

  take(): ReadonlyArray<NumberedSettlement> {
    return this.#waiting.splice(0, this.#mostTaken)
  }

  /** The settlements that were taken have been written. */
  written(): void {
    this.#mostTaken = Math.min(mostAtOnce, 2 * this.#mostTaken)
  }

  /** The settlements that were taken have not been written, or nobody knows. */
  putBack(settlements: ReadonlyArray<NumberedSettlement>): void {
    this.#waiting = [...settlements, ...this.#waiting]
    this.#mostTaken = Math.max(1, Math.floor(this.#mostTaken / 2))
  }
}

/** The most settlements in one transaction. */
const mostAtOnce = 1_000

/** The most that wait while the store is down. Each takes some hundred bytes, or a kilobyte with an answer. */
const mostWaiting = 20_000
