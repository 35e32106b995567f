/** A delivery on its way to the store. */
import type { CancelTimer } from "../../runtime/Timers.ts"
import type { NewDelivery, Recorded } from "../../store/contract/Queue.ts"
import type { StoreFallback } from "../StoreMetrics.ts"

/** A delivery that is to be written. Either `written` or `refused` is called, once. */
export interface WriteRequest {
  /** Bytes of its body. */
  readonly size: number
  /** Called when its transaction begins. */
  readonly delivery: () => NewDelivery
  /** The delivery is on disk. */
  readonly written: (recorded: Recorded) => void
  /** The delivery has to go without the store. */
  readonly refused: (reason: StoreFallback) => void
  /** Called at most once after `refused`. The delivery is on disk after all, or (undefined) nobody knows. */
  readonly writtenLate: (recorded: Recorded | undefined) => void
}

interface DeliveryWriteObserver {
  /** Bytes. */
  readonly stored: (size: number) => void
  readonly refused: (reason: StoreFallback) => void
}

/** The write of one delivery, from `StoreWriter.write` to its end. */
export class DeliveryWrite {
  readonly size: number
  cancelPatience: CancelTimer = () => {}
  readonly #request: WriteRequest
  readonly #observer: DeliveryWriteObserver
  #delivery: NewDelivery | undefined
  #isRefused = false

  constructor(request: WriteRequest, observer: DeliveryWriteObserver) {
    this.size = request.size
    this.#request = request
    this.#observer = observer
  }

  /** Returns the same delivery each time that the write is tried. */
  begin(): NewDelivery {
    return this.#delivery ??= this.#request.delivery()
  }

  written(recorded: Recorded): void {
    this.cancelPatience()
    this.#observer.stored(this.size)
    if (this.#isRefused) this.#request.writtenLate(recorded)
    else this.#request.written(recorded)
  }

  /** The write has failed, or will not be tried. */
  failed(): void {
    this.refuse("unavailable")
    if (this.#delivery !== undefined) this.#request.writtenLate(undefined)
  }

  refuse(reason: StoreFallback): void {
    if (this.#isRefused) return
    this.cancelPatience()
    this.#isRefused = true
    this.#observer.refused(reason)
    this.#request.refused(reason)
  }
}
