/**
 * The attempts on one delivery, counted down twice: to the reply, and to the release of its memory.
 */
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import * as Outcome from "../domain/Outcome.ts"
import type { Member } from "../runtime/LiveSet.ts"
import type { CancelTimer } from "../runtime/Timers.ts"
import type { Attempt, AttemptObserver } from "./Attempt.ts"
import type { LedgerEntry } from "./Ledger.ts"
import type { SprayResult } from "./Reply.ts"

/**
 * One observer is shared by all deliveries in flight, because closures of their own would be made for each delivery.
 */
export interface InFlightObserver {
  readonly attemptSettled: (inFlight: InFlight, backend: Backend, report: AttemptReport) => void
  readonly attemptEnded: (backend: Backend) => void
  /** Nothing of the delivery is under way any more. Called once. */
  readonly ended: (inFlight: InFlight) => void
}

export class InFlight implements Member, AttemptObserver {
  place = -1
  readonly delivery: Delivery
  readonly entry: LedgerEntry
  readonly #bytes: number
  readonly #observer: InFlightObserver
  readonly #onEnded: () => void
  #unsettled: number
  #underWay: number
  #failed = false
  #attempts: ReadonlyArray<Attempt> = []
  #reply: ((result: SprayResult) => void) | undefined
  #cancelTimeout: CancelTimer | undefined

  /** The delivery holds `bytes` of memory until `onEnded` is called. */
  constructor(delivery: Delivery, entry: LedgerEntry, bytes: number, observer: InFlightObserver, onEnded: () => void) {
    this.delivery = delivery
    this.entry = entry
    this.#bytes = bytes
    this.#observer = observer
    this.#onEnded = onEnded
    this.#unsettled = this.#underWay = entry.backends.length
  }

  /** `cancelTimeout` cancels the timer that will call `expire`. */
  start(attempts: ReadonlyArray<Attempt>, cancelTimeout: CancelTimer): void {
    this.#attempts = attempts
    this.#cancelTimeout = cancelTimeout
    for (const attempt of attempts) attempt.start()
    if (attempts.length === 0) this.#end()
  }

  settled(report: AttemptReport, backend: Backend): void {
    this.#observer.attemptSettled(this, backend, report)
    this.#unsettled -= 1
    if (!Outcome.isSuccess(report.outcome)) this.#failed = true
    if (this.#unsettled === 0) this.#reply?.(this.#result())
    else if (this.#unsettled === this.#attempts.length - 1) {
      for (const attempt of this.#attempts) attempt.behind(this.#bytes)
    }
  }

  ended(backend: Backend): void {
    this.#observer.attemptEnded(backend)
    this.#underWay -= 1
    if (this.#underWay === 0) this.#end()
  }

  onSettled(reply: (result: SprayResult) => void): void {
    this.#reply = reply
    if (this.#unsettled === 0) reply(this.#result())
  }

  expire(reason: string): void {
    for (const attempt of this.#attempts) attempt.expire(reason)
  }

  #end(): void {
    this.#cancelTimeout?.()
    this.#onEnded()
    this.#observer.ended(this)
  }

  #result(): SprayResult {
    return this.#failed ? "failed" : "proxied"
  }
}
