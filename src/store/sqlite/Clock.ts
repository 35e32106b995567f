/**
 * The clock of a store in a SQLite file. It is the file's own: what is stored is right by it whatever the system's clock does.
 *
 * **Details**
 *
 * - Time is taken from the system when the file is first opened, and from then on from the monotonic clock.
 * - It never goes back: what the file has seen last is in it. Where the system's clock is behind that, time goes on from
 *   there, a hundredth slower until the system's has caught up. What was due in a second is due in a second, and shown times
 *   are ahead for a while.
 * - Where it is ahead, nobody can tell a clock that was set from a server that stood still. Such a gap of more than an hour is
 *   kept as a *stop*. Stops make nobody older: what was pending is not given up for them, and the time to live of a
 *   registered backend, which could not renew it, does not run in them. All else goes by the clock: what waited is due, and what
 *   is done is cleaned up.
 */
import type { Clock } from "effect/Clock"

/** A gap between two lives of the store, by its clock. */
export interface Stop {
  /** The last time that is known before it. What was written after that, before a crash, lies within the stop. */
  readonly at: number
  /** Milliseconds. */
  readonly length: number
}

/** Milliseconds; shorter ones are restarts. */
const shortestStop = 3_600_000

/** A lead on the system's clock becomes less by this part of the time that passes. */
const slower = 1 / 128

export class StoreClock {
  readonly #clock: Clock
  #wall: number
  #start: bigint
  #lead = 0
  #stops: ReadonlyArray<Stop> = []
  #unsaved: Stop | undefined
  #isSet = false

  constructor(clock: Clock) {
    this.#clock = clock
    this.#wall = clock.currentTimeMillisUnsafe()
    this.#start = clock.monotonicTimeNanosUnsafe()
  }

  /** Unix time in milliseconds. */
  now(): number {
    const elapsed = this.#elapsed()
    return Math.floor(this.#wall + elapsed + Math.max(0, this.#lead - elapsed * slower))
  }

  /** The time that lies so many milliseconds back, stops not counted. */
  ago(millis: number): number {
    let then = this.now() - millis
    for (const { at, length } of this.#stops) if (then < at + length) then -= length
    return then
  }

  /** Newest first. */
  get stops(): ReadonlyArray<Stop> {
    return this.#stops
  }

  /** The stop that has just ended, as long as the file does not have it. */
  get unsaved(): Stop | undefined {
    return this.#unsaved
  }

  saved(): void {
    this.#unsaved = undefined
  }

  /** Goes on from the time that a file has seen last, with its stops, newest first; undefined: it is new. */
  resume(known: number | undefined, stops: ReadonlyArray<Stop>): void {
    // Once it runs, the system's clock is not asked again.
    if (!this.#isSet) {
      this.#wall = this.#clock.currentTimeMillisUnsafe()
      this.#start = this.#clock.monotonicTimeNanosUnsafe()
    }
    const gap = known === undefined || this.#isSet ? 0 : this.#wall - known
    if (known !== undefined && gap > shortestStop) this.#unsaved = { at: known, length: gap }
    // Opened again, the same file still does not have it.
    else if (this.#unsaved?.at !== known) this.#unsaved = undefined
    this.#isSet = true
    this.#stops = this.#unsaved === undefined ? stops : [this.#unsaved, ...stops]
    const behind = (known ?? 0) - this.now()
    if (behind > 0) this.#lead = (known ?? 0) - this.#wall - this.#elapsed() * (1 - slower)
  }

  #elapsed(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe() - this.#start) / 1_000_000
  }
}
