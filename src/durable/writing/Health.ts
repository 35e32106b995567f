/**
 * Whether the store takes writes: for deliveries, which want to know now, and for operators, who have to be told.
 *
 * **Details**
 *
 * - The store is down from the first write that fails, and up again with the first that succeeds, even if that is the
 *   probe.
 * - The probe is a small write of its own, and may succeed where others fail: because a right on one table is missing,
 *   or the last bytes of a disk. After that has happened once, operators are told "up" only when something else was
 *   written. To them, a store that comes up each second and fails again is down.
 */
interface StoreHealthObserver {
  /** Called at each change. */
  readonly changed: (isUp: boolean) => void
  /** Called at the changes that an operator should know of. */
  readonly told: (isUp: boolean, reason: string) => void
}

export class StoreHealth {
  #isUp = true
  #isToldUp = true
  /** The store came up by the probe, and nothing else was written since. */
  #isOnTrial = false
  /** The last trial has failed. */
  #isProbeDoubted = false
  readonly #observer: StoreHealthObserver

  constructor(observer: StoreHealthObserver) {
    this.#observer = observer
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** The store has not taken a delivery or an outcome, or not in time. */
  failed(reason: string): void {
    if (this.#isOnTrial) this.#isProbeDoubted = true
    this.probeFailed(reason)
  }

  /** The store has not taken the probe. */
  probeFailed(reason: string): void {
    this.#isOnTrial = false
    this.#tell(false, reason)
    this.#set(false)
  }

  /** The store has taken a delivery or an outcome. */
  wrote(): void {
    this.#isOnTrial = this.#isProbeDoubted = false
    this.#tell(true, "")
    this.#set(true)
  }

  /** The store has taken the probe. */
  probed(): void {
    if (this.#isUp) return
    this.#isOnTrial = true
    if (!this.#isProbeDoubted) this.#tell(true, "")
    this.#set(true)
  }

  #tell(isUp: boolean, reason: string): void {
    if (this.#isToldUp === isUp) return
    this.#isToldUp = isUp
    this.#observer.told(isUp, reason)
  }

  #set(isUp: boolean): void {
    if (this.#isUp === isUp) return
    this.#isUp = isUp
    this.#observer.changed(isUp)
  }
}
