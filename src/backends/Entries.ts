/** The set of backends in this process. Every change of it is one synchronous step. */
import type { Backend } from "../domain/Backend.ts"
import { type BackendFilter, isSame } from "../domain/BackendFilter.ts"
import type { Expiry } from "./Expiry.ts"

/** A backend in the registry. Times are Unix times in milliseconds. */
export interface Entry {
  readonly backend: Backend
  registeredAt: number
  expiry: Expiry
  filter: BackendFilter | undefined
  /**
   * When the first attempt of those failed after which no delivery has arrived, on the monotonic clock. Undefined: the last
   * one arrived, or none was made since the registration.
   */
  failingSince: number | undefined
  lastOutcome: string | undefined
  lastOutcomeAt: number | undefined
}

/** Learns of each change of the set. */
export interface EntriesObserver {
  readonly added: (backend: Backend) => void
  readonly removed: (backend: Backend, reason: string | undefined) => void
  /** A backend may now expire earlier than any other. */
  readonly expiryChanged: () => void
}

export class Entries implements Iterable<Entry> {
  readonly #byKey = new Map<string, Entry>()
  /** Keys of dynamic backends for which room is kept, and which are not in the set yet. */
  readonly #awaited = new Set<string>()
  readonly #dynamicLimit: number
  readonly #observer: EntriesObserver
  #statics = 0
  #snapshot: ReadonlyArray<Backend> = []
  #isFiltered = false

  constructor(dynamicLimit: number, observer: EntriesObserver) {
    this.#dynamicLimit = dynamicLimit
    this.#observer = observer
  }

  /** The same array until a backend comes or goes. */
  get snapshot(): ReadonlyArray<Backend> {
    return this.#snapshot
  }

  /** Whether a backend has a filter. */
  get isFiltered(): boolean {
    return this.#isFiltered
  }

  get(key: string): Entry | undefined {
    return this.#byKey.get(key)
  }

  has(key: string): boolean {
    return this.#byKey.has(key)
  }

  /** Goes through a copy, so entries may leave meanwhile. */
  [Symbol.iterator](): Iterator<Entry> {
    return Array.from(this.#byKey.values()).values()
  }

  /** Keeps room for a dynamic backend until it is added or `giveUpRoom` is called. False means that there is none. */
  takeRoom(key: string): boolean {
    if (this.#byKey.has(key)) return true
    if (this.#byKey.size + this.#awaited.size - this.#statics >= this.#dynamicLimit) return false
    this.#awaited.add(key)
    return true
  }

  giveUpRoom(key: string): void {
    this.#awaited.delete(key)
  }

  add(backend: Backend, registeredAt: number, expiry: Expiry, filter: BackendFilter | undefined): Entry {
    this.#awaited.delete(backend.key)
    const entry: Entry = {
      backend,
      registeredAt,
      expiry,
      filter,
      failingSince: undefined,
      lastOutcome: undefined,
      lastOutcomeAt: undefined
    }
    this.#byKey.set(backend.key, entry)
    if (backend.source === "static") this.#statics += 1
    this.#observer.expiryChanged()
    this.#publish()
    this.#observer.added(backend)
    return entry
  }

  /** The terms of a dynamic backend that was registered again. */
  renew(entry: Entry, expiry: Expiry, filter: BackendFilter | undefined): void {
    entry.expiry = expiry
    this.#observer.expiryChanged()
    if (isSame(entry.filter, filter)) return
    entry.filter = filter
    this.#lookForFilters()
  }

  /** Only dynamic backends leave. */
  remove({ backend }: Entry, reason: string | undefined): void {
    this.#byKey.delete(backend.key)
    this.#publish()
    this.#observer.removed(backend, reason)
  }

  #publish(): void {
    this.#snapshot = Array.from(this.#byKey.values(), ({ backend }) => backend)
    this.#lookForFilters()
  }

  #lookForFilters(): void {
    this.#isFiltered = Array.from(this.#byKey.values()).some(({ filter }) => filter !== undefined)
  }
}
