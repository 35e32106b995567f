/**
 * A share of each turn of the event loop for work that comes in bursts; what is beyond it waits for the next turns, in the
 * order of its arrival.
 *
 * Without it, whoever offers twice what this process bears has all of it begun at once: turns of seconds, in each of which
 * one connection is accepted and no timer runs, and thousands of connections to backends that answer no sooner for it.
 */
import { performance } from "node:perf_hooks"

/** While work waits, this many turns do none of it, for libuv accepts one connection in each. */
const restingTurns = 8

export class TurnShare {
  readonly #millis: number
  #spent = 0
  #scheduled = false
  #resting = 0
  #waiting: Array<() => void> = []

  constructor(millis: number) {
    this.#millis = millis
  }

  /** Whether `run` would run something at once. */
  get isOpen(): boolean {
    return this.#spent < this.#millis && this.#waiting.length === 0
  }

  run(work: () => void): void {
    if (this.isOpen) this.#runNow(work)
    else this.#waiting.push(work)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#nextTurn)
  }

  #runNow(work: () => void): void {
    const startedAt = performance.now()
    work()
    this.#spent += performance.now() - startedAt
  }

  readonly #nextTurn = (): void => {
    this.#scheduled = this.#waiting.length > 0
    if (this.#scheduled) setImmediate(this.#nextTurn)
    if (this.#resting > 0) {
      this.#resting -= 1
      return
    }
    this.#spent = 0
    if (!this.#scheduled) return
    this.#resting = restingTurns
    let begun = 0
    while (begun < this.#waiting.length && this.#spent < this.#millis) this.#runNow(this.#waiting[begun++]!)
    this.#waiting.splice(0, begun)
  }
}
