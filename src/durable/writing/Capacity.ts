/** Whether the store has room, judged by its last measured size and what was written since. */
export class StoreCapacity {
  /** Bytes. */
  readonly limit: number
  #used = 0

  constructor(limit: number) {
    this.limit = limit
  }

  hasRoomFor(bytes: number): boolean {
    return this.#used + bytes < this.limit
  }

  wrote(bytes: number): void {
    this.#used += bytes
  }

  measured(bytes: number): void {
    this.#used = bytes
  }
}
