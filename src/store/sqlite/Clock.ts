/**
 * The clock of a store in a SQLite file. It belongs to the file, so that stored times are right whatever the system's
 * clock does.
 *
 * **Details**
 *
 * - It takes its time from the system when the file is first opened, and goes on by the monotonic clock.
 * - It never goes back, because the file keeps the last time that it has seen. If the system's clock is behind that
 *   time, the store's clock goes on from there, a hundredth slower, until the system's has caught up. A row that was
 *   due in a second stays due in a second, and shown times are ahead for a while.
 * - If the system's clock is ahead, nobody can tell a clock that was set from a server that stood still. Such a gap of
 *   more than an hour is kept as a *stop*. A stop makes nothing older: pending rows are not given up for it. Nor does
 *   the time to live of a registered backend run in it, because the backend could not renew it. All else goes by the
 *   clock: waiting rows are due, and finished deliveries are pruned.
 */
import type { Clock } from "effect/Clock"

/** A gap between two lives of the store, in times of its clock. */
export interface Stop {
  /** The last known time before the gap. A write that came after that time, before a crash, lies within the stop. */
  readonly at: number
  /** Milliseconds. */
  readonly length: number
}

/** Milliseconds. A shorter gap is a restart. */
const shortestStop = 3_600_000

/** The part of the time that passes by which a lead on the system's clock gets smaller. */
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

  /** The time so many milliseconds ago, without the stops. */
  ago(millis: number): number {
    let then = this.now() - millis
    for (const { at, length } of this.#stops) if (then < at + length) then -= length
    return then
  }

  /** The stops, newest first. */
  get stops(): ReadonlyArray<Stop> {
    return this.#stops
  }

  /** The stop that has just ended, until the file has it. */
  get unsaved(): Stop | undefined {
    return this.#unsaved
  }

  saved(): void {
    this.#unsaved = undefined
  }

  /** Goes on from the last time that a file has seen, with its stops, newest first. Undefined: the file is new. */
  resume(known: number | undefined, stops: ReadonlyArray<Stop>): void {
    // The system's clock is asked only once.
    if (!this.#isSet) {
      this.#wall = this.#clock.currentTimeMillisUnsafe()
      this.#start = this.#clock.monotonicTimeNanosUnsafe()
    }
    const gap = known === undefined || this.#isSet ? 0 : this.#wall - known
    if (known !== undefined && gap > shortestStop) this.#unsaved = { at: known, length: gap }
    // The same file may be opened again without the stop having been saved in it.
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
