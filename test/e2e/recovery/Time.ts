/**
 * The time of a test's world. It goes on as time does, and can be set forward: for GitHub, for the servers, and for the
 * store, which is asked for nothing meanwhile that it would not be asked for in the same time.
 */
/* oxlint-disable no-await-in-loop -- step by step */
import { once } from "node:events"
import type { Server } from "../../crash/Server.ts"

/** Milliseconds: less than any lease, so that all that is renewed in time stays so. */
const step = 15_000

/** Sets the time of a store that has a clock of its own. */
export type SetStore = (ahead: number) => Promise<void>

export class Time {
  /** Milliseconds. */
  ahead = 0
  readonly #servers = new Set<Server>()
  readonly #setStore: SetStore

  readonly #witnessed: () => number

  /** `witnessed`: a count that grows with all that servers do together. */
  constructor(setStore: SetStore, witnessed: () => number) {
    this.#setStore = setStore
    this.#witnessed = witnessed
  }

  readonly now = (): number => Date.now() + this.ahead

  /** A server lives in this time until it ends. */
  join(server: Server): void {
    this.#servers.add(server)
    void server.exit.then(() => this.#servers.delete(server))
  }

  /** Lets time pass until the condition holds. Returns the milliseconds that it took, or fails if they are more. */
  async until(condition: () => boolean | Promise<boolean>, most: number, what: string): Promise<number> {
    const begin = this.now()
    while (!await condition()) {
      if (this.now() - begin > most) throw new Error(`${what} did not come true within ${most / 60_000} minutes`)
      await this.#pass(step)
    }
    return this.now() - begin
  }

  async pass(millis: number): Promise<void> {
    for (let left = millis; left > 0; left -= step) await this.#pass(Math.min(left, step))
  }

  async #pass(millis: number): Promise<void> {
    this.ahead += millis
    await this.#setStore(this.ahead)
    // One server's work may be the next one's.
    for (let before = -1; before < this.#witnessed();) {
      before = this.#witnessed()
      await Promise.all([...this.#servers].map(async ({ exit, process }) => {
        const heard = once(process, "message")
        process.send(this.ahead)
        await Promise.race([heard, exit])
      }))
    }
  }
}
