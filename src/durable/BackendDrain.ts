/**
 * The drain of one backend: the pace at which its backlog is sent.
 *
 * **Details**
 *
 * - The rate begins with 4 deliveries a second. It rises by half with each second in which the backend kept up, to 200,
 *   and is halved when the backend seems to be away. A refusal is an answer, so the backend keeps up. An error of its
 *   own (5xx) counts for neither.
 * - At most half of the backend's permits are used, so that fresh deliveries always find some.
 * - Deliveries that were held only because of a probe come on top of the rate. Without a breaker they would have gone
 *   at once.
 */
import type { AttemptReport } from "../domain/AttemptReport.ts"
import * as Outcome from "../domain/Outcome.ts"
import type { ClaimOrder } from "../store/contract/Queue.ts"
import type { Admission } from "./BackendBreakers.ts"

/** Milliseconds from one look at what is due to the next. */
export const tickMillis = 250

const firstRate = 4
const highestRate = 200

export class BackendDrain {
  /** The store is being asked for rows of this backend. */
  isClaiming = false
  #active = 0
  #rate = firstRate
  #credit = 0
  #owed = 0
  #claims = 0
  #ticks = 0
  #hasKeptUp = false
  readonly #mostActive: number

  constructor(permits: number) {
    this.#mostActive = Math.max(1, Math.floor(permits / 2))
  }

  /** A tick has passed. `held` is how many deliveries were held because of a probe that has succeeded. */
  tick(held: number): void {
    this.#owed += held
    this.#ticks += 1
    if (this.#ticks % (1_000 / tickMillis) === 0) {
      if (this.#hasKeptUp) this.#rate = Math.min(highestRate, this.#rate * 1.5)
      this.#hasKeptUp = false
    }
    this.#credit = Math.min(this.#rate, this.#credit + this.#rate * tickMillis / 1_000)
  }

  /** How many attempts may begin now. */
  allowance(): number {
    return Math.max(0, Math.min(Math.floor(this.#credit) + this.#owed, this.#mostActive - this.#active))
  }

  /** Which rows to claim next. Among held deliveries the newest were held last. */
  order({ forHeld, isProbe }: Pick<Admission, "forHeld" | "isProbe">): ClaimOrder {
    this.#claims += 1
    return forHeld || this.#owed > 0 || this.#claims % (isProbe ? 2 : 4) === 0 ? "newest" : "oldest"
  }

  /** Of `asked` rows, `count` have begun. */
  began(count: number, asked: number): void {
    this.#active += count
    const owed = Math.min(count, this.#owed)
    this.#owed = count < asked ? 0 : this.#owed - owed
    this.#credit -= count - owed
  }

  nothingDue(): void {
    this.#owed = 0
  }

  notMade(): void {
    this.#active -= 1
  }

  /** A row was not made because it was cancelled. Such rows must not keep wanted ones waiting, and cost the backend nothing. */
  cancelled(): void {
    this.#credit += 1
    this.#hasKeptUp = true
  }

  ended({ outcome, status }: Pick<AttemptReport, "outcome" | "status">): void {
    this.#active -= 1
    if (Outcome.isAway(outcome, status)) this.#rate = Math.max(firstRate, this.#rate / 2)
    else if (status !== undefined && status < 500) this.#hasKeptUp = true
  }
}
