/**
 * Counts the attempts in GitHub's log by their result. Only this shows how the front door is: all between GitHub and our
 * answer. Requests that never reach this process can't be counted by it.
 *
 * **Details**
 *
 * Each attempt is counted once, although each full pass begins some time before the end of the one before. New are those
 * that the pass before has not seen: they came after it, or late. A pass that begins much earlier has older ones too:
 * they were counted in their time.
 *
 * **Gotchas**
 *
 * If another process has made the pass before, nobody here knows what it has seen. Then those after its end are counted,
 * and late ones are not.
 */
import type { LoggedAttempt } from "../GitHubLog.ts"
import { isSuccess } from "../LoggedDelivery.ts"

/** How an attempt of GitHub's ended. `refused`: 4xx. `failed`: 5xx, and what is no answer to a webhook. */
export const frontDoorResults = ["delivered", "refused", "failed", "unanswered"] as const
export type FrontDoorResult = typeof frontDoorResults[number]

export class FrontDoor {
  readonly #overlap: number
  /** The pass before. */
  #before: { readonly end: number; readonly ids: ReadonlySet<string> } | undefined

  /** `overlap`: milliseconds by which passes overlap. */
  constructor(overlap: number) {
    this.#overlap = overlap
  }

  /** A full pass begins. `position` is the end of the one before. This one ends no later than `now`. */
  begin(position: number, now: number): FrontDoorCount {
    const isOurs = this.#before?.end === position
    return new FrontDoorCount(position, now, this.#overlap, isOurs ? this.#before?.ids : undefined)
  }

  /** The pass has come to its end, and is counted. */
  end(count: FrontDoorCount, end: number): void {
    this.#before = { end, ids: count.idsSince(end - this.#overlap) }
  }
}

class FrontDoorCount {
  readonly counts = new Map<FrontDoorResult, number>()
  readonly #position: number
  readonly #now: number
  readonly #overlap: number
  readonly #before: ReadonlySet<string> | undefined
  readonly #ids = new Map<string, number>()
  #latest = 0

  constructor(position: number, now: number, overlap: number, before: ReadonlySet<string> | undefined) {
    this.#position = position
    this.#now = now
    this.#overlap = overlap
    this.#before = before
  }

  add({ deliveredAt, id, statusCode }: LoggedAttempt): void {
    if (this.#ids.has(id)) return
    this.#latest = Math.max(this.#latest, Math.min(deliveredAt, this.#now))
    // The newest come first. Those that no later pass will see again are not remembered.
    if (deliveredAt >= this.#latest - this.#overlap) this.#ids.set(id, deliveredAt)
    const isOld = deliveredAt < this.#position - this.#overlap || this.#before?.has(id) === true
    const isNew = this.#before === undefined ? deliveredAt > this.#position : !isOld
    if (!isNew) return
    const result = resultOf(statusCode)
    this.counts.set(result, (this.counts.get(result) ?? 0) + 1)
  }

  idsSince(time: number): ReadonlySet<string> {
    return new Set(Array.from(this.#ids).filter(([, at]) => at >= time).map(([id]) => id))
  }
}

const resultOf = (statusCode: number): FrontDoorResult =>
  isSuccess(statusCode)
    ? "delivered"
    : statusCode === 0
    ? "unanswered"
    : statusCode >= 400 && statusCode < 500
    ? "refused"
    : "failed"
