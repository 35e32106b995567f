/** A server that is started again and again on one store. */
import { readFileSync } from "node:fs"
import { Server } from "../crash/Server.ts"
import type { Targets } from "../crash/Traffic.ts"

export class Replica {
  port = 0
  isUp = false
  /** MiB, of all its lives. */
  peakMemory = 0
  #server: Server | undefined
  /** Milliseconds by which its wall clock is ahead. */
  #clock = 0
  readonly #args: ReadonlyArray<string>
  readonly #targets: Targets

  constructor(args: ReadonlyArray<string>, targets: Targets) {
    this.#args = args
    this.#targets = targets
  }

  /** Starts it, and waits until it listens. */
  async start(): Promise<void> {
    this.begin()
    this.port = (await this.#server!.listening).port
    this.isUp = true
  }

  /** Starts it, and does not wait. */
  begin(): void {
    const preload = new URL("./Clock.ts", import.meta.url).href
    this.#server = new Server(this.#args, { preload, env: { CHAOS_CLOCK_OFFSET: String(this.#clock) } })
  }

  /** Traffic may come. */
  open(): void {
    this.#targets.add(this.port)
  }

  /** Sets its wall clock, now or for its next life. */
  setClock(offset: number): void {
    this.#clock = offset
    if (this.isUp) this.#server!.process.send(offset)
  }

  async kill(): Promise<void> {
    this.#close()
    await this.#server?.kill()
    this.#server = undefined
  }

  /** Tells it to stop; its exit code. */
  async stop(): Promise<number | null> {
    this.#close()
    const code = await this.#server!.stop()
    this.#server = undefined
    return code
  }

  #close(): void {
    if (this.isUp) this.#noteMemory()
    this.isUp = false
    this.#targets.remove(this.port)
  }

  #noteMemory(): void {
    try {
      const status = readFileSync(`/proc/${this.#server!.process.pid}/status`, "utf8")
      const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1_024
      this.peakMemory = Math.max(this.peakMemory, Math.round(peak))
    } catch {
      // There is no such file on this system.
    }
  }
}
