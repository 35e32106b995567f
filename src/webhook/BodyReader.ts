/**
 * Reads a delivery's body once, up to a maximum size and within the memory budget, and hands each chunk on as it
 * arrives.
 *
 * **Details**
 *
 * If the budget has no room, the rest of the body stays unread in the socket, and TCP holds the sender back. A sender
 * must send at least 64 KiB/s over any 5 s, and be done in 30 s. Time in which we do not read does not count.
 *
 * The reader is on the path of each delivery, and keeps the rules of `forwarding/README.md`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type { IncomingMessage } from "node:http"
import { type Body, BodyAssembly } from "../domain/Body.ts"
import { contained } from "../runtime/Contained.ts"
import { LiveSet, type Member } from "../runtime/LiveSet.ts"
import { MemoryBudget, type Reservation } from "../runtime/MemoryBudget.ts"
import { type CancelTimer, Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"

/**
 * `body too large`: the body is larger than `--max-request-size`. `sender too slow`: the sender is slower than it may
 * be. `body cut off`: in the middle of the body the sender went away, or sent something that is not HTTP. `overloaded`:
 * there was no memory for the body until the reply was due.
 */
export type BodyFailure = "body too large" | "sender too slow" | "body cut off" | "overloaded"

/** Gets a body as it is read. Either `received` or `failed` is called, once. */
export interface BodyObserver {
  readonly arrived: (chunk: Buffer) => void
  readonly received: (body: Body) => void
  readonly failed: (failure: BodyFailure) => void
}

export class BodyReader extends Context.Service<BodyReader, {
  /**
   * Reads `request` to its end, and charges what arrives to `reservation`. A wait for memory becomes `overloaded` at
   * `deadline` (a time of `Timers.now`). The function that it returns stops the reading, and after that the observer is
   * not called any more.
   */
  readonly read: (
    request: IncomingMessage,
    reservation: Reservation,
    deadline: number,
    observer: BodyObserver
  ) => () => void
}>()("sprayproxy/webhook/BodyReader") {
  static readonly layer = Layer.effect(
    BodyReader,
    Effect.gen(function*() {
      const settings = yield* Settings
      const budget = yield* MemoryBudget
      const timers = yield* Timers
      const readings = new LiveSet<Reading>()

      // Each check is contained by itself. A defect in one must not let all other senders be as slow as they like.
      yield* Effect.suspend(() => {
        const time = timers.now()
        return Effect.forEach(readings, (reading) => contained(Effect.sync(() => reading.checkPace(time))), {
          discard: true
        })
      }).pipe(Effect.repeat(Schedule.spaced("1 second")), Effect.forkScoped)

      const host: ReadingHost = {
        maxBytes: settings.maxRequestSize,
        timers,
        isCrowded: () => budget.state().waiting >= mostWaiting,
        readings
      }
      return BodyReader.of({
        read: (request, reservation, deadline, observer) => {
          const reading = new Reading(host, request, reservation, deadline, observer)
          reading.start()
          return () => reading.stop()
        }
      })
    })
  )
}

/**
 * Each body that waits holds a connection and up to 64 KiB that its sender has sent: 64 MiB at most for all of them.
 */
const mostWaiting = 1_000

const paceWindow = 5_000
const paceBytes = (64 * 1024 * paceWindow) / 1_000
const longestReading = 30_000

/** The most that a socket hands over at once. A reading waits for this much room before it reads on. */
const nextRead = 64 * 1024

/** The part that all readings share. */
interface ReadingHost {
  readonly maxBytes: number
  readonly timers: Timers["Service"]
  /** So many bodies wait for memory that one more would hardly get any in time. */
  readonly isCrowded: () => boolean
  readonly readings: LiveSet<Reading>
}

class Reading implements Member {
  place = -1
  readonly #host: ReadingHost
  readonly #request: IncomingMessage
  readonly #reservation: Reservation
  readonly #deadline: number
  readonly #observer: BodyObserver
  readonly #assembly = new BodyAssembly()
  #stopped = false
  #startedAt = 0
  #windowAt = 0
  #windowBytes = 0
  #waitingSince: number | undefined
  #leaveQueue: (() => void) | undefined
  #cancelDeadline: CancelTimer | undefined

  constructor(
    host: ReadingHost,
    request: IncomingMessage,
    reservation: Reservation,
    deadline: number,
    observer: BodyObserver
  ) {
    this.#host = host
    this.#request = request
    this.#reservation = reservation
    this.#deadline = deadline
    this.#observer = observer
  }

  start(): void {
    this.#host.readings.add(this)
    this.#startedAt = this.#windowAt = this.#host.timers.now()
    if (this.#request.destroyed && !this.#request.complete) return this.#fail("body cut off")
    this.#request.on("end", this.#onEnd).on("close", this.#onClose).on("error", ignore)
    if (!this.#reservation.hold(0)) {
      if (this.#host.isCrowded()) return this.#fail("overloaded")
      this.#waitForRoom()
    }
    if (this.#stopped) return
    this.#request.on("data", this.#onData)
    if (this.#waitingSince !== undefined) this.#request.pause()
  }

  /** Removes every way by which the request, which may live on for a while, could reach the body. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#host.readings.delete(this)
    this.#leaveQueue?.()
    this.#cancelDeadline?.()
    this.#request.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose)
  }

  checkPace(now: number): void {
    if (this.#stopped || this.#waitingSince !== undefined) return
    if (now - this.#startedAt > longestReading) return this.#fail("sender too slow")
    if (now - this.#windowAt < paceWindow) return
    if (this.#windowBytes < paceBytes) return this.#fail("sender too slow")
    this.#windowAt = now
    this.#windowBytes = 0
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#assembly.append(chunk)
    if (this.#assembly.length > this.#host.maxBytes) return this.#fail("body too large")
    this.#windowBytes += chunk.length
    this.#observer.arrived(chunk)
    if (!this.#reservation.hold(chunk.length)) {
      this.#request.pause()
      this.#waitForRoom()
    }
  }

  readonly #onEnd = (): void => {
    this.stop()
    this.#observer.received(this.#assembly.body())
  }

  readonly #onClose = (): void => this.#fail("body cut off")

  #waitForRoom(): void {
    const { timers } = this.#host
    const since = this.#waitingSince = timers.now()
    this.#cancelDeadline = timers.after(Math.max(0, this.#deadline - since), () => this.#fail("overloaded"))
    this.#leaveQueue = this.#reservation.wait(nextRead, () => {
      const waited = timers.now() - since
      this.#waitingSince = undefined
      this.#startedAt += waited
      this.#windowAt += waited
      this.#cancelDeadline?.()
      this.#request.resume()
    })
  }

  #fail(failure: BodyFailure): void {
    if (this.#stopped) return
    this.stop()
    this.#observer.failed(failure)
  }
}

/**
 * Listens for `error` even after the end. The socket may still fail, and an error that nobody hears ends the process.
 * `close` follows the error.
 */
const ignore = () => {}
