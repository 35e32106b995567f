/**
 * A share of each turn of the event loop for work that comes in bursts. Work beyond the share waits for later turns, in
 * the order of its arrival.
 *
 * Without it, a sender of twice the load that this process bears has all of it begun at once. Turns then last for
 * seconds, and in each of them one connection is accepted and no timer runs. Thousands of connections to backends are
 * opened, and the answers come no sooner.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import { performance } from "node:perf_hooks"

/**
 * Milliseconds of each turn, enough to begin 20 deliveries to three backends. Their answers take about as long again.
 */
const shareMillis = 2

/** While work waits, so many turns in between do none of it, because libuv accepts one connection in each turn. */
const restingTurns = 8

export class TurnBudget extends Context.Service<TurnBudget, {
  /** Whether `run` would do its work at once. */
  readonly isOpen: () => boolean
  /** Does `work` in this turn or in a later one. */
  readonly run: (work: () => void) => void
  /** Does everything that waits now, whatever its share. */
  readonly runAll: () => void
}>()("sprayproxy/runtime/TurnBudget") {
  static readonly layer = Layer.sync(TurnBudget, () => {
    const share = new Share()
    return TurnBudget.of({ isOpen: () => share.isOpen, run: (work) => share.run(work), runAll: () => share.runAll() })
  })

  /** Does all work at once, for tests that drive the turns themselves. */
  static readonly layerUnlimited = Layer.succeed(
    TurnBudget,
    TurnBudget.of({ isOpen: () => true, run: (work) => work(), runAll: () => {} })
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

  runAll(): void {
    for (const work of this.#waiting.splice(0)) this.#runNow(work)
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
