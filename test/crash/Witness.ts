/**
 * Who saw what: the deliveries that were sent, what the sender was told, and what each backend took.
 *
 * **Details**
 *
 * A backend took a delivery when it had read the request whole and meant to answer 202, whether anybody was still there to
 * read that. Taking one again is a duplicate. It is excused if the first time was in an earlier life of the server: that
 * life ended before the outcome was stored. What the server has called delivered may not come again at all.
 */
import { hash } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"

interface Sent {
  readonly bodyHash: string
  isAccepted: boolean
}

interface Taken {
  /** The server's, when it was first taken. */
  readonly life: number
  isSaidToBeDelivered: boolean
}

/** Whether a delivery may have come twice. `takenIn` is the server's life when it came first. */
export type IsExcused = (guid: string, takenIn: number, life: number) => boolean

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
  /** What should never happen, in words. */
  readonly wrongs: Array<string> = []
  readonly #sent = new Map<string, Sent>()
  readonly #backends: ReadonlyMap<string, BackendRecord>
  readonly #isExcused: IsExcused

  constructor(backends: ReadonlyArray<string>, isExcused: IsExcused = (_guid, takenIn, life) => takenIn < life) {
    this.#isExcused = isExcused
    this.#backends = new Map(backends.map((name) => [name, new BackendRecord()]))
  }

  sending(guid: string, bodyHash: string): void {
    this.#sent.set(guid, { bodyHash, isAccepted: false })
  }

  answered(guid: string, status: number): void {
    if (status !== 202) {
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
    if (before === undefined) {
      record.taken.set(guid, { life: this.life, isSaidToBeDelivered: false })
      if (this.#sent.get(guid)?.isAccepted === true) this.#outstanding -= 1
      return
    }
    record.duplicates += 1
    if (before.isSaidToBeDelivered) this.wrongs.push(`${backend} was sent ${guid} again after it was called delivered`)
    else if (!this.#isExcused(guid, before.life, this.life)) this.wrongs.push(`${backend} was sent ${guid} twice`)
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
