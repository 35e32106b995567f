/**
 * The record of a crash run: the deliveries that were sent, what the sender was told, and what each backend took.
 *
 * **Details**
 *
 * A backend took a delivery when it had read the request whole and meant to answer 202, whether anybody was still there to
 * read that. Taking one again is a duplicate. It is excused if the last time was in an earlier life of the server, which
 * ended before the outcome was stored, if the backend had not answered, or if somebody asked for it. What the server has
 * called delivered may only come again because somebody asked.
 */
import { hash } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"

interface Sent {
  readonly bodyHash: string
  isAccepted: boolean
}

interface Taken {
  /** The server's, when it was last taken. */
  life: number
  /** When that was, on `performance.now`. */
  at: number
  isUnanswered: boolean
  isSaidToBeDelivered: boolean
}

/** Whether the server's death explains that a delivery came again. */
export type IsExcused = (guid: string, before: Readonly<Taken>, life: number) => boolean

/** Why a delivery came again. */
export type Explanation = "the server had died" | "the backend had not answered" | "it was asked for"

export class Witness {
  /** How often the server was started. */
  life = 0
  /** Requests that a backend has read whole. */
  attempts = 0
  accepted = 0
  /** Other replies, by status; 0: none, or not whole. */
  readonly otherReplies = new Map<number, number>()
  /** Arrivals that the server has called delivered. */
  calledDelivered = 0
  /** Things that should never happen, in words. */
  readonly wrongs: Array<string> = []
  readonly #sent = new Map<string, Sent>()
  readonly #backends: ReadonlyMap<string, BackendRecord>
  readonly #isExcused: IsExcused
  readonly #askedFor = new Set<string>()
  /** Duplicates that are excused, by why. */
  readonly explanations = new Map<Explanation, number>()

  constructor(backends: ReadonlyArray<string>, isExcused: IsExcused = (_guid, before, life) => before.life < life) {
    this.#isExcused = isExcused
    this.#backends = new Map(backends.map((name) => [name, new BackendRecord()]))
  }

  sending(guid: string, bodyHash: string): void {
    this.#sent.set(guid, { bodyHash, isAccepted: false })
  }

  /** Other words under 202 promise nothing. */
  answered(guid: string, status: number, text: string): void {
    if (status !== 202 || text !== "accepted") {
      this.otherReplies.set(status, (this.otherReplies.get(status) ?? 0) + 1)
      return
    }
    this.#sent.get(guid)!.isAccepted = true
    this.accepted += 1
    for (const { taken } of this.#backends.values()) if (!taken.has(guid)) this.#outstanding += 1
  }

  received(backend: string, guid: string, body: Buffer): void {
    this.attempts += 1
    const sent = this.#sent.get(guid)
    if (sent === undefined) this.wrongs.push(`${backend} received ${guid}, which nobody sent`)
    else if (sent.bodyHash !== hash("sha256", body, "hex")) {
      this.wrongs.push(`${backend} received other bytes for ${guid}`)
    }
  }

  took(backend: string, guid: string): void {
    const record = this.#backends.get(backend)!
    const before = record.taken.get(guid)
    const at = performance.now()
    if (before === undefined) {
      record.taken.set(guid, { life: this.life, at, isUnanswered: false, isSaidToBeDelivered: false })
      if (this.#sent.get(guid)?.isAccepted === true) this.#outstanding -= 1
      return
    }
    record.duplicates += 1
    const explanation = this.#explain(guid, before)
    if (explanation !== undefined) this.explanations.set(explanation, (this.explanations.get(explanation) ?? 0) + 1)
    else if (before.isSaidToBeDelivered) {
      this.wrongs.push(`${backend} was sent ${guid} again after it was called delivered`)
    } else this.wrongs.push(`${backend} was sent ${guid} twice`)
    Object.assign(before, { life: this.life, at, isUnanswered: false })
  }

  #explain(guid: string, before: Taken): Explanation | undefined {
    if (this.#askedFor.has(guid)) return "it was asked for"
    if (before.isSaidToBeDelivered) return undefined
    if (this.#isExcused(guid, before, this.life)) return "the server had died"
    return before.isUnanswered ? "the backend had not answered" : undefined
  }

  /** The backend took it, and its answer was not read. */
  unanswered(backend: string, guid: string): void {
    const taken = this.#backends.get(backend)!.taken.get(guid)
    if (taken !== undefined) taken.isUnanswered = true
  }

  /** Somebody wants it to be sent again. */
  asksFor(guid: string): void {
    this.#askedFor.add(guid)
  }

  /** The server says that a backend has it. */
  saidToBeDelivered(backend: string, guid: string): void {
    const taken = this.#backends.get(backend)!.taken.get(guid)
    if (taken !== undefined) {
      if (!taken.isSaidToBeDelivered) this.calledDelivered += 1
      taken.isSaidToBeDelivered = true
    } else this.wrongs.push(`${guid} was called delivered to ${backend}, which never took it`)
  }

  get sent(): number {
    return this.#sent.size
  }

  /** How many backends lack how many of the deliveries that were answered 202, in all. */
  get outstanding(): number {
    return this.#outstanding
  }
  #outstanding = 0

  /** Waits until nothing is outstanding, or nothing has arrived for so many milliseconds. */
  async allArrived(patience: number): Promise<void> {
    let least = this.#outstanding
    let deadline = performance.now() + patience
    // oxlint-disable no-await-in-loop -- it polls
    while (this.#outstanding > 0 && performance.now() < deadline) {
      await sleep(20)
      if (this.#outstanding >= least) continue
      least = this.#outstanding
      deadline = performance.now() + patience
    }
    // oxlint-enable no-await-in-loop
  }

  /** Each delivery that was answered 202 and did not arrive, by backend. */
  lost(): ReadonlyArray<string> {
    return [...this.#backends].flatMap(([backend, { taken }]) =>
      [...this.#sent].flatMap(([guid, { isAccepted }]) => isAccepted && !taken.has(guid) ? [`${backend} ${guid}`] : [])
    )
  }

  duplicates(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#backends].map(([name, { duplicates }]) => [name, duplicates]))
  }
}

class BackendRecord {
  readonly taken = new Map<string, Taken>()
  duplicates = 0
}
