/**
 * The queue of deliveries and outcomes that wait for the store. It decides when the next batch goes: what comes
 * together shares one transaction, and with it the sync of the disk.
 *
 * **Details**
 *
 * - Somebody waits for a delivery, so it goes after 2 ms, and others come along. Nobody waits for an outcome, so it
 *   goes with the next deliveries or after 20 ms, together with the other outcomes of its delivery.
 * - Transactions begin 3 ms apart, because each costs the same whatever it holds. A full one does not wait.
 */
import type { StoreBatch } from "./Batch.ts"
import type { DeliveryWrite } from "./DeliveryWrite.ts"
import { SettlementQueue } from "./SettlementQueue.ts"

export class WriteQueue {
  readonly settlements = new SettlementQueue()
  readonly #now: () => number
  readonly #deliveries: Array<DeliveryWrite> = []
  /** The bytes of the bodies that wait. */
  #bytes = 0
  /** When the delivery, and the outcome, that has waited longest came. */
  #deliveriesSince = 0
  #outcomesSince = 0
  #notBefore = -Infinity

  /** `now` gives milliseconds on a monotonic clock. */
  constructor(now: () => number) {
    this.#now = now
  }

  get isEmpty(): boolean {
    return this.#deliveries.length === 0 && this.settlements.length === 0
  }

  /** Whole milliseconds until the next batch goes. 0 or less: now. Infinity: nothing waits. */
  get wait(): number {
    if (this.#deliveries.length >= mostDeliveries || this.#bytes >= mostBytes || this.settlements.isFull) return 0
    const due = Math.min(
      this.#deliveries.length === 0 ? Infinity : this.#deliveriesSince + linger,
      this.settlements.length === 0 ? Infinity : this.#outcomesSince + outcomeLinger
    )
    return Math.floor(Math.max(due, this.#notBefore) - this.#now())
  }

  /** True: the next batch may go sooner than without this delivery. */
  addDelivery(write: DeliveryWrite): boolean {
    this.#bytes += write.size
    const isFirst = this.#deliveries.push(write) === 1
    if (isFirst) this.#deliveriesSince = this.#now()
    return isFirst || this.#deliveries.length >= mostDeliveries || this.#bytes >= mostBytes
  }

  /** The same for an outcome. */
  addedOutcome(): boolean {
    const isFirst = this.settlements.length === 1
    if (isFirst) this.#outcomesSince = this.#now()
    return isFirst || this.settlements.isFull
  }

  /** The delivery should not be written any more. */
  remove(write: DeliveryWrite): void {
    const at = this.#deliveries.indexOf(write)
    if (at >= 0) this.#takeDeliveries(at, 1)
  }

  removeDeliveries(): ReadonlyArray<DeliveryWrite> {
    return this.#takeDeliveries(0, this.#deliveries.length)
  }

  take(): StoreBatch {
    let bytes = 0
    let count = 0
    for (; count < Math.min(this.#deliveries.length, mostDeliveries); count += 1) {
      bytes += this.#deliveries[count]!.size
      if (count > 0 && bytes > mostBytes) break
    }
    this.#notBefore = this.#now() + spacing
    return { deliveries: this.#takeDeliveries(0, count), settlements: this.settlements.take() }
  }

  #takeDeliveries(at: number, count: number): Array<DeliveryWrite> {
    const taken = this.#deliveries.splice(at, count)
    for (const { size } of taken) this.#bytes -= size
    return taken
  }
}

/** Milliseconds. */
const linger = 2
const outcomeLinger = 20
const spacing = 3

/** The limits of one transaction. Its bodies are copied while it is under way. */
const mostDeliveries = 256
const mostBytes = 2 * 1024 * 1024
