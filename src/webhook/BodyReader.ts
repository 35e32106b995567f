/**
 * Reads a delivery's body once, under a cap, within the memory budget, and hands each chunk on as it arrives.
 *
 * **Details**
 *
 * Where the budget has no room, the rest of the body stays unread in the socket, and TCP holds the sender back. A sender
 * must be at least as fast as 64 KiB/s over any 5 s and be done in 30 s; time in which we do not read does not count.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { IncomingMessage } from "node:http"
import { type Body, BodyAssembly } from "../domain/Body.ts"
import { contained } from "../runtime/Contained.ts"
import { MemoryBudget, Overloaded, type Reservation } from "../runtime/MemoryBudget.ts"
import { type Member, Roster } from "../runtime/Roster.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"

/** The body is larger than `--max-request-size`. */
class BodyTooLarge extends Schema.TaggedError<BodyTooLarge>()("BodyTooLarge", { received: Schema.Finite }) {}

/** The sender is slower than a sender may be. */
class SenderTooSlow extends Schema.TaggedError<SenderTooSlow>()("SenderTooSlow", { received: Schema.Finite }) {}

/** The sender went away, or sent something that is not HTTP, in the middle of the body. */
class BodyCutOff extends Schema.TaggedError<BodyCutOff>()("BodyCutOff", { received: Schema.Finite }) {}

export type BodyFailure = BodyTooLarge | SenderTooSlow | BodyCutOff | Overloaded

export interface ReceivedBody {
  readonly body: Body
  /** What the body is charged to; the receiver's to release. */
  readonly reservation: Reservation
}

export class BodyReader extends Context.Service<BodyReader, {
  /**
   * Reads `request` to its end. `deadline` is the time on `Timers.now` at which waiting for memory becomes `Overloaded`.
   * Unless it succeeds, it holds no memory when it ends.
   */
  readonly read: (
    request: IncomingMessage,
    deadline: number,
    onChunk: (chunk: Buffer) => void
  ) => Effect.Effect<ReceivedBody, BodyFailure>
}>()("sprayproxy/webhook/BodyReader") {
  static readonly layer = Layer.effect(
    BodyReader,
    Effect.gen(function*() {
      const settings = yield* Settings
      const budget = yield* MemoryBudget
      const timers = yield* Timers
      const readings = new Roster<Reading>()

      // Each by itself: a defect in one sender's check must not let all others be as slow as they like.
      yield* Effect.suspend(() => {
        const time = timers.now()
        return Effect.forEach(readings, (reading) => contained(Effect.sync(() => reading.checkPace(time))), {
          discard: true
        })
      }).pipe(Effect.repeat(Schedule.spaced("1 second")), Effect.forkScoped)

      return BodyReader.of({
        read: (request, deadline, onChunk) =>
          Effect.callback((resume) => {
            const reservation = budget.open()
            const reading = new Reading(request, reservation, settings.maxRequestSize, onChunk, {
              now: timers.now,
              isCrowded: () => budget.state().waiting >= mostWaiting,
              onDeadline: (f) => timers.after(Math.max(0, deadline - timers.now()), f),
              done: (result) => {
                readings.delete(reading)
                if (result instanceof ReadFailure) reservation.release()
                resume(result instanceof ReadFailure ? Effect.fail(result.error) : Effect.succeed(result))
              }
            })
            readings.add(reading)
            reading.start()
            return Effect.sync(() => {
              reading.stop()
              readings.delete(reading)
              reservation.release()
            })
          })
      })
    })
  )
}

/** Each that waits holds a connection and up to 64 KiB that it has sent: these are 64 MiB at most. */
const mostWaiting = 1_000

const paceWindow = 5_000
const paceBytes = (64 * 1024 * paceWindow) / 1_000
const longestReading = 30_000

/** What a socket hands over at once: the room that a reading waits for before it reads on. */
const nextRead = 64 * 1024

class ReadFailure {
  readonly error: BodyFailure
  constructor(error: BodyFailure) {
    this.error = error
  }
}

interface ReadingHooks {
  readonly now: () => number
  /** So many wait for memory that one more would hardly get any in time. */
  readonly isCrowded: () => boolean
  readonly onDeadline: (f: () => void) => () => void
  readonly done: (result: ReceivedBody | ReadFailure) => void
}

class Reading implements Member {
  place = -1
  readonly #request: IncomingMessage
  readonly #reservation: Reservation
  readonly #maxBytes: number
  readonly #onChunk: (chunk: Buffer) => void
  readonly #hooks: ReadingHooks
  #assembly = new BodyAssembly()
  #stopped = false
  #startedAt = 0
  #windowAt = 0
  #windowBytes = 0
  #waitingSince: number | undefined
  #leaveQueue = () => {}
  #cancelDeadline = () => {}

  constructor(
    request: IncomingMessage,
    reservation: Reservation,
    maxBytes: number,
    onChunk: (chunk: Buffer) => void,
    hooks: ReadingHooks
  ) {
    this.#request = request
    this.#reservation = reservation
    this.#maxBytes = maxBytes
    this.#onChunk = onChunk
    this.#hooks = hooks
  }

  start(): void {
    this.#startedAt = this.#windowAt = this.#hooks.now()
    if (this.#request.destroyed && !this.#request.complete) return this.#onClose()
    this.#request.on("end", this.#onEnd).on("close", this.#onClose).on("error", this.#onClose)
    if (!this.#reservation.hold(0)) {
      if (this.#hooks.isCrowded()) return this.#fail(new Overloaded({ waited: 0 }))
      this.#waitForRoom()
    }
    if (this.#stopped) return
    this.#request.on("data", this.#onData)
    if (this.#waitingSince !== undefined) this.#request.pause()
  }

  stop(): void {
    this.#stopped = true
    this.#leaveQueue()
    this.#cancelDeadline()
    this.#request.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose)
    // The request may live on for a while, and with it the listener for `error` and all that it can reach.
    this.#assembly = new BodyAssembly()
  }

  checkPace(now: number): void {
    if (this.#stopped || this.#waitingSince !== undefined) return
    if (now - this.#startedAt > longestReading) return this.#fail(new SenderTooSlow(this.#received()))
    if (now - this.#windowAt < paceWindow) return
    if (this.#windowBytes < paceBytes) return this.#fail(new SenderTooSlow(this.#received()))
    this.#windowAt = now
    this.#windowBytes = 0
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#assembly.append(chunk)
    if (this.#assembly.length > this.#maxBytes) return this.#fail(new BodyTooLarge(this.#received()))
    this.#windowBytes += chunk.length
    this.#onChunk(chunk)
    if (!this.#reservation.hold(chunk.length)) {
      this.#request.pause()
      this.#waitForRoom()
    }
  }

  readonly #onEnd = (): void => {
    const body = this.#assembly.body()
    this.stop()
    this.#hooks.done({ body, reservation: this.#reservation })
  }

  // Kept on `error` after the end, for the socket may still fail and an unheard error ends the process.
  readonly #onClose = (): void => {
    if (!this.#stopped) this.#fail(new BodyCutOff(this.#received()))
  }

  #waitForRoom(): void {
    this.#waitingSince = this.#hooks.now()
    this.#cancelDeadline = this.#hooks.onDeadline(() =>
      this.#fail(new Overloaded({ waited: this.#hooks.now() - (this.#waitingSince ?? 0) }))
    )
    this.#leaveQueue = this.#reservation.wait(nextRead, () => {
      const waited = this.#hooks.now() - (this.#waitingSince ?? 0)
      this.#waitingSince = undefined
      this.#startedAt += waited
      this.#windowAt += waited
      this.#cancelDeadline()
      this.#request.resume()
    })
  }

  #received() {
    return { received: this.#assembly.length }
  }

  #fail(error: BodyFailure): void {
    this.stop()
    this.#hooks.done(new ReadFailure(error))
  }
}
