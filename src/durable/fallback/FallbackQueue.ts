/**
 * Records of deliveries that went without the store, while they wait for it. They are few bytes for each backend, and
 * bounded: a store that is away for long costs the oldest.
 */
import type { FallbackRecord } from "../../store/contract/Recovery.ts"

/** A record that waits. `receivedAt` is on `Timers.now`. */
export interface WaitingRecord extends Omit<FallbackRecord, "age"> {
  readonly receivedAt: number
}

export class FallbackQueue {
  #waiting: Array<WaitingRecord> = []
  /** The backends in all records that wait. */
  #ends = 0

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  get length(): number {
    return this.#waiting.length
  }

  /** The newest. */
  get last(): WaitingRecord | undefined {
    return this.#waiting.at(-1)
  }

  isWaiting(record: WaitingRecord): boolean {
    return this.#waiting.includes(record)
  }

  /** Returns how many of the oldest were dropped to make room. */
  add(record: WaitingRecord): number {
    this.#waiting.push(record)
    this.#ends += sizeOf(record)
    let dropped = 0
    while (this.#ends > mostEnds && dropped < this.#waiting.length - 1) this.#ends -= sizeOf(this.#waiting[dropped++]!)
    this.#waiting.splice(0, dropped)
    return dropped
  }

  /** The oldest. They stay until they are `written`. */
  next(limit = mostAtOnce): ReadonlyArray<WaitingRecord> {
    return this.#waiting.slice(0, limit)
  }

  /** The store has these, or will never take them. Some may have been dropped meanwhile. */
  done(records: ReadonlyArray<WaitingRecord>): void {
    const isDone = new Set(records)
    this.#waiting = this.#waiting.filter((record) => !isDone.has(record))
    this.#ends = this.#waiting.reduce((sum, record) => sum + sizeOf(record), 0)
  }
}

/** A delivery that went to nobody takes up room too. */
const sizeOf = ({ backends }: WaitingRecord): number => 1 + backends.length

/** Each takes some fifty bytes. */
const mostEnds = 200_000

const mostAtOnce = 200
