/**
 * A share of each turn of the event loop for work that comes in bursts; what is beyond it waits for the next turns, in the
 * order of its arrival.
 *
 * Without it, whoever offers twice what this process bears has all of it begun at once: turns of seconds, in each of which
 * one connection is accepted and no timer runs, and thousands of connections to backends that answer no sooner for it.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { performance } from "node:perf_hooks"

/**
 * Milliseconds of each turn: 20 deliveries to three backends. What is begun comes back as answers, and takes about as long
 * again.
 */
const shareMillis = 2

/** While work waits, this many turns do none of it, for libuv accepts one connection in each. */
const restingTurns = 8

export class TurnBudget extends Context.Service<TurnBudget, {
  /** Whether `run` would run something at once. */
  readonly isOpen: () => boolean
  /** Runs `work` in this turn or in a later one. */
  readonly run: (work: () => void) => void
}>()("sprayproxy/runtime/TurnBudget") {
  static readonly layer = Layer.sync(TurnBudget, () => {
    const share = new Share()
    return TurnBudget.of({ isOpen: () => share.isOpen, run: (work) => share.run(work) })
  })

  /** Everything at once, for tests that drive the turns themselves. */
  static readonly layerUnlimited = Layer.succeed(
    TurnBudget,
    TurnBudget.of({ isOpen: () => true, run: (work) => work() })
  )
}

class Share {
  #spent = 0
  #scheduled = false
  #resting = 0
  readonly #waiting: Array<() => void> = []

  get isOpen(): boolean {
    return this.#spent < shareMillis && this.#waiting.length === 0
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
    if (this.#waiting.length === 0) {
      this.#scheduled = false
      this.#spent = this.#resting = 0
      return
    }
    setImmediate(this.#nextTurn)
    if (this.#resting > 0) {
      this.#resting -= 1
      return
    }
    this.#spent = 0
    this.#resting = restingTurns
    let begun = 0
    while (begun < this.#waiting.length && this.#spent < shareMillis) this.#runNow(this.#waiting[begun++]!)
    this.#waiting.splice(0, begun)
  }
}
