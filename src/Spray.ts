/**
 * Sprays a delivery: every backend at once, with one reply to GitHub.
 *
 * **Details**
 *
 * Attempts belong to the server, not to the request: a client that hangs up cancels nothing, and when the reply is due
 * before they have ended they go on behind it. The memory of a delivery is given back when nothing of it is under way.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Backend } from "./Backend.ts"
import { BackendRegistry } from "./BackendRegistry.ts"
import { Overloaded } from "./BodyReader.ts"
import type { Delivery } from "./Delivery.ts"
import { DeliveryLog } from "./DeliveryLog.ts"
import { type Attempt, type AttemptObserver, Forwarder } from "./Forwarder.ts"
import type { Reservation } from "./MemoryBudget.ts"
import { Metrics } from "./Metrics.ts"
import * as Outcome from "./Outcome.ts"
import { type Member, Roster } from "./Roster.ts"
import { Settings } from "./Settings.ts"
import { Timers } from "./Timers.ts"
import { TurnShare } from "./TurnShare.ts"

/** `proxied`: every backend has it. `failed`: at least one does not. `accepted`: the reply was due before that was known. */
export type SprayResult = "proxied" | "failed" | "accepted"

export class Spray extends Context.Service<Spray, {
  /**
   * Starts every attempt and waits for their outcomes until `replyDeadline` (on `Timers.now`). Takes the reservation over.
   * Interruption stops the waiting for outcomes, nothing else.
   */
  readonly spray: (
    delivery: Delivery,
    reservation: Reservation,
    replyDeadline: number
  ) => Effect.Effect<SprayResult, Overloaded>
  /** Deliveries of which something is under way. */
  readonly inFlight: () => number
  /** Waits until nothing is under way. */
  readonly idle: Effect.Effect<void>
  /** Ends everything that is under way; the number of attempts that had no outcome yet. */
  readonly cutOff: Effect.Effect<number>
}>()("sprayproxy/Spray") {
  static readonly layer = Layer.effect(
    Spray,
    Effect.gen(function*() {
      const settings = yield* Settings
      const registry = yield* BackendRegistry
      const forwarder = yield* Forwarder
      const timers = yield* Timers
      const log = yield* DeliveryLog
      const metrics = yield* Metrics
      const turns = yield* TurnShare
      const forwardingTimeout = Duration.toMillis(settings.forwardingTimeout)
      const underWay = new Roster<InFlight>()
      const idleListeners = new Set<() => void>()
      /** Verified deliveries that wait for memory or for their turn. */
      let waiting = 0
      let closed = false

      const isIdle = () => underWay.size === 0 && waiting === 0
      const ended = () => {
        if (isIdle()) { for (const listener of idleListeners) listener() }
      }

      const start = (delivery: Delivery, reservation: Reservation, backends: ReadonlyArray<Backend>) => {
        const deadline = timers.now() + forwardingTimeout
        const cancelTimeout = timers.after(forwardingTimeout, () => inFlight.expire("no answer in time"))
        const inFlight = new InFlight(backends.length, reservation.bytes, () => {
          cancelTimeout()
          reservation.release()
          underWay.delete(inFlight)
          ended()
        })
        const observer: AttemptObserver = {
          settled: (report, backend) => {
            metrics.settled(backend, report)
            registry.recordOutcome(backend, report.outcome, Date.now())
            log.attempted(delivery, backend, report)
            inFlight.settled(report.outcome)
          },
          released: (backend) => {
            metrics.released(backend)
            inFlight.released()
          }
        }
        underWay.add(inFlight)
        inFlight.start(backends.map((backend) => {
          metrics.began(backend)
          return forwarder.attempt(backend, delivery, deadline, observer)
        }))
        return inFlight
      }

      const result = (inFlight: InFlight, replyDeadline: number) =>
        Effect.callback<SprayResult>((resume) => {
          const reply = (become: SprayResult) => {
            cancelDeadline()
            resume(Effect.succeed(become))
          }
          const cancelDeadline = timers.after(Math.max(0, replyDeadline - timers.now()), () => reply("accepted"))
          inFlight.onSettled(reply)
          return Effect.sync(cancelDeadline)
        })

      return Spray.of({
        spray: (delivery, reservation, replyDeadline) =>
          Effect.suspend(() => {
            const backends = registry.snapshot()
            let inFlight: InFlight | undefined
            const begin = () => {
              if (!closed) inFlight = start(delivery, reservation, backends)
            }
            const awaited = (): Effect.Effect<SprayResult, Overloaded> => {
              if (inFlight !== undefined) return result(inFlight, replyDeadline)
              reservation.release()
              return Effect.fail(new Overloaded({ waited: 0 }))
            }
            reservation.verified()
            const hasRoom = reservation.hold(deliveryBytes + backendBytes * backends.length)
            if (hasRoom && turns.isOpen()) {
              turns.run(begin)
              return awaited()
            }
            const turn = Effect.callback<void>((resume) => {
              turns.run(() => {
                begin()
                resume(Effect.void)
              })
            })
            const room = hasRoom ? Effect.void : roomBefore(replyDeadline, reservation, timers)
            waiting += 1
            const begun = Effect.andThen(room, turn).pipe(Effect.ensuring(Effect.sync(() => {
              waiting -= 1
              ended()
            })))
            // What is verified and complete is not lost because its sender has hung up meanwhile.
            return Effect.uninterruptibleMask((restore) => Effect.flatMap(begun, () => restore(awaited())))
          }),
        inFlight: () => underWay.size + waiting,
        idle: Effect.callback((resume) => {
          if (isIdle()) return resume(Effect.void)
          const listener = () => resume(Effect.void)
          idleListeners.add(listener)
          return Effect.sync(() => idleListeners.delete(listener))
        }),
        cutOff: Effect.sync(() => {
          // What is cut off makes room, and nothing may begin in it any more.
          closed = true
          let attempts = 0
          for (const inFlight of underWay) {
            attempts += inFlight.unsettled
            inFlight.expire("cut off by the shutdown")
          }
          return attempts
        })
      })
    })
  )
}

/** What a delivery is charged beside its body: for its request, timers and log lines, and for each of its attempts. */
const deliveryBytes = 32 * 1024
const backendBytes = 4 * 1024

const roomBefore = (deadline: number, reservation: Reservation, timers: Timers["Service"]) =>
  Effect.callback<void, Overloaded>((resume) => {
    const since = timers.now()
    const cancelDeadline = timers.after(Math.max(0, deadline - since), () => {
      leaveQueue()
      reservation.release()
      resume(Effect.fail(new Overloaded({ waited: timers.now() - since })))
    })
    const leaveQueue = reservation.wait(0, () => {
      cancelDeadline()
      resume(Effect.void)
    })
  })

/** The attempts of one delivery, counted down twice: to the reply, and to the release of its memory. */
class InFlight implements Member {
  place = -1
  unsettled: number
  #unreleased: number
  #failed = false
  #attempts: ReadonlyArray<Attempt> = []
  #reply: ((result: SprayResult) => void) | undefined
  readonly #bytes: number
  readonly #onReleased: () => void

  constructor(attempts: number, bytes: number, onReleased: () => void) {
    this.unsettled = this.#unreleased = attempts
    this.#bytes = bytes
    this.#onReleased = onReleased
  }

  start(attempts: ReadonlyArray<Attempt>): void {
    this.#attempts = attempts
    for (const attempt of attempts) attempt.start()
    if (attempts.length === 0) this.#onReleased()
  }

  settled(outcome: Outcome.Outcome): void {
    this.unsettled -= 1
    if (!Outcome.isSuccess(outcome)) this.#failed = true
    if (this.unsettled === 0) this.#reply?.(this.#result())
    else if (this.unsettled === this.#attempts.length - 1) {
      for (const attempt of this.#attempts) attempt.behind(this.#bytes)
    }
  }

  released(): void {
    this.#unreleased -= 1
    if (this.#unreleased === 0) this.#onReleased()
  }

  onSettled(reply: (result: SprayResult) => void): void {
    this.#reply = reply
    if (this.unsettled === 0) reply(this.#result())
  }

  expire(reason: string): void {
    for (const attempt of this.#attempts) attempt.expire(reason)
  }

  #result(): SprayResult {
    return this.#failed ? "failed" : "proxied"
  }
}
