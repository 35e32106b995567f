/**
 * One budget of memory for the bodies of all deliveries in this process.
 *
 * **Details**
 *
 * - A reservation is charged for bytes as they arrive, never for bytes that are only announced.
 * - A sender that has not been verified may hold more than 256 KiB only within half of the budget.
 * - A delivery that finds no room waits. Small ones go before large ones, and among those the oldest first.
 * - Waiting deliveries can't deadlock each other: one at a time may exceed the budget until it is released, and one may
 *   exceed the unverified half until it is verified.
 *
 * **Gotchas**
 *
 * Bytes are charged when they are here. So the budget can be exceeded by what paused sockets have already handed over:
 * at most one chunk (64 KiB) for each delivery that is being read.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Settings } from "../settings/Settings.ts"

/**
 * The memory that one delivery is charged for. Its owner is whoever opened it, and releases it. All others only borrow
 * it, and must have ended before.
 */
export interface Reservation {
  /** Bytes charged so far. */
  readonly bytes: number
  /** Charges bytes that are here. False means that there is no room: take no more before `wait` calls back. */
  readonly hold: (bytes: number) => boolean
  /** Calls `resume` once, when there is room for `next` more bytes. The function that it returns leaves the queue. */
  readonly wait: (next: number, resume: () => void) => () => void
  /** To be called when the sender is verified: its bytes no longer count as unverified. */
  readonly verified: () => void
  /** Gives everything back; idempotent. Only the owner calls it. */
  readonly release: () => void
}

/** Bytes of the budget and in use, and the number of deliveries that wait. */
export interface BudgetState {
  readonly capacity: number
  readonly used: number
  readonly waiting: number
}

export class MemoryBudget extends Context.Service<MemoryBudget, {
  readonly open: () => Reservation
  readonly state: () => BudgetState
}>()("sprayproxy/runtime/MemoryBudget") {
  static readonly layer = Layer.effect(
    MemoryBudget,
    Effect.map(Settings, (settings) => MemoryBudget.of(make(settings.bodyMemory)))
  )
}

/** Waits until there is room for `bytes` more bytes. */
export const roomFor = (reservation: Reservation, bytes: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const leaveQueue = reservation.wait(bytes, () => resume(Effect.void))
    return Effect.sync(leaveQueue)
  })

/** A delivery of at most this size is small. Most are, and the unverified half does not limit them. */
const smallBytes = 256 * 1024

interface Waiter {
  readonly charge: Charge
  readonly next: number
  readonly resume: () => void
}

class Charge implements Reservation {
  bytes = 0
  /** Room kept for the bytes that a resumed waiter is about to read. */
  promised = 0
  isVerified = false
  released = false
  readonly age: number
  readonly #budget: Budget

  constructor(budget: Budget, age: number) {
    this.#budget = budget
    this.age = age
  }

  hold(bytes: number): boolean {
    if (this.released) return true
    this.#budget.change(this, this.bytes + bytes, 0)
    return this.#budget.fits(this, 0)
  }

  wait(next: number, resume: () => void): () => void {
    return this.#budget.enqueue({ charge: this, next, resume })
  }

  verified(): void {
    this.#budget.verify(this)
  }

  release(): void {
    this.#budget.release(this)
  }
}

class Budget {
  used = 0
  #unverifiedLarge = 0
  #age = 0
  #isServing = false
  #isDue = false
  #beyondBudget: Charge | undefined
  #beyondHalf: Charge | undefined
  readonly #small: Array<Waiter> = []
  readonly #large: Array<Waiter> = []
  readonly capacity: number

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get waiting(): number {
    return this.#small.length + this.#large.length
  }

  open(): Reservation {
    return new Charge(this, this.#age++)
  }

  change(charge: Charge, bytes: number, promised: number): void {
    const before = charge.bytes + charge.promised
    const after = bytes + promised
    this.used += after - before
    if (!charge.isVerified) {
      this.#unverifiedLarge += (after > smallBytes ? after : 0) - (before > smallBytes ? before : 0)
    }
    charge.bytes = bytes
    charge.promised = promised
  }

  fits(charge: Charge, next: number): boolean {
    return this.#fitsBudget(charge, next) && this.#fitsHalf(charge, next)
  }

  #fitsBudget(charge: Charge, next: number): boolean {
    return this.used + next <= this.capacity || this.#beyondBudget === charge
  }

  #fitsHalf(charge: Charge, next: number): boolean {
    // A charge that may exceed the budget may exceed the half too. Otherwise it could wait for one that waits for it.
    if (charge.isVerified || charge === this.#beyondHalf || charge === this.#beyondBudget) return true
    const held = charge.bytes + charge.promised
    if (held + next <= smallBytes) return true
    return this.#unverifiedLarge + next + (held > smallBytes ? 0 : held) <= this.capacity / 2
  }

  enqueue(waiter: Waiter): () => void {
    const { charge, next } = waiter
    const queue = charge.isVerified || charge.bytes + next <= smallBytes ? this.#small : this.#large
    // The others wait for the charge that may exceed the half, so it waits behind none of them.
    const comesBefore = (other: Charge) =>
      charge === this.#beyondHalf || (other !== this.#beyondHalf && charge.age < other.age)
    let at = queue.length
    while (at > 0 && comesBefore(queue[at - 1]!.charge)) at -= 1
    queue.splice(at, 0, waiter)
    this.#serve()
    return () => {
      const index = queue.indexOf(waiter)
      if (index >= 0) queue.splice(index, 1)
    }
  }

  verify(charge: Charge): void {
    if (charge.isVerified || charge.released) return
    const held = charge.bytes + charge.promised
    if (held > smallBytes) this.#unverifiedLarge -= held
    charge.isVerified = true
    if (this.#beyondHalf === charge) this.#beyondHalf = undefined
    this.#serve()
  }

  release(charge: Charge): void {
    if (charge.released) return
    this.change(charge, 0, 0)
    charge.released = true
    if (this.#beyondBudget === charge) this.#beyondBudget = undefined
    if (this.#beyondHalf === charge) this.#beyondHalf = undefined
    this.#serve()
  }

  /** A waiter that is resumed may release at once. It is served in a loop, because a call for each would fill the stack. */
  #serve(): void {
    this.#isDue = true
    if (this.#isServing) return
    this.#isServing = true
    try {
      while (this.#isDue) {
        this.#isDue = false
        this.#serveQueue(this.#small)
        this.#serveQueue(this.#large)
      }
    } finally {
      this.#isServing = false
    }
  }

  #serveQueue(queue: Array<Waiter>): void {
    while (queue.length > 0) {
      const { charge, next, resume } = queue[0]!
      if (!this.#fitsBudget(charge, next)) {
        if (this.#beyondBudget !== undefined) return
        this.#beyondBudget = charge
      } else if (!this.#fitsHalf(charge, next)) {
        if (this.#beyondHalf !== undefined) return
        this.#beyondHalf = charge
      }
      queue.shift()
      this.change(charge, charge.bytes, next)
      resume()
    }
  }
}

/** A budget of `capacity` bytes. */
export const make = (capacity: number): MemoryBudget["Service"] => {
  const budget = new Budget(capacity)
  return {
    open: () => budget.open(),
    state: () => ({ capacity, used: budget.used, waiting: budget.waiting })
  }
}
