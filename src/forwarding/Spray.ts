/**
 * Sprays a delivery: every backend at once, with one reply to GitHub.
 *
 * **Details**
 *
 * Attempts belong to the server, not to the request: a client that hangs up cancels nothing, and when the reply is due
 * before they have ended they go on behind it. The memory of a delivery is given back when nothing of it is under way.
 *
 * The ledger comes first. What it has on disk is answered at once; else the outcomes decide the reply.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { BackendRegistry } from "../backends/Registry.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import * as Outcome from "../domain/Outcome.ts"
import { DeliveryLog } from "../observability/logs/DeliveryLog.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import * as Names from "../observability/metrics/Names.ts"
import { observableGauge } from "../observability/metrics/Readings.ts"
import { Overloaded, type Reservation } from "../runtime/MemoryBudget.ts"
import { type Member, Roster } from "../runtime/Roster.ts"
import { Timers } from "../runtime/Timers.ts"
import { TurnShare } from "../runtime/TurnShare.ts"
import { Settings } from "../settings/Settings.ts"
import { type Attempt, type AttemptObserver, Forwarder } from "./Forwarder.ts"
import { Ledger, type LedgerEntry } from "./Ledger.ts"

/**
 * `proxied`: every backend has it. `failed`: at least one does not. `accepted`: the delivery is on disk, or, in direct mode,
 * the reply was due before the outcomes were known. `forwarding`: that, where `accepted` would promise that it is on disk.
 */
export type SprayResult = "proxied" | "failed" | "accepted" | "forwarding"

/** An attempt that was ended before its outcome was known. */
export interface CutOff {
  readonly delivery: Delivery
  readonly backend: Backend
}

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
  /** Starts the attempts of a delivery that nobody waits for. Takes the reservation over. */
  readonly begin: (delivery: Delivery, reservation: Reservation, entry: LedgerEntry) => void
  /** Deliveries of which something is under way. */
  readonly inFlight: () => number
  /** Waits until nothing is under way. */
  readonly idle: Effect.Effect<void>
  /** Ends everything that is under way. The attempts that had no outcome yet and will not be made again. */
  readonly cutOff: Effect.Effect<ReadonlyArray<CutOff>>
}>()("sprayproxy/forwarding/Spray") {
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
      const ledger = yield* Ledger
      const forwardingTimeout = Duration.toMillis(settings.forwardingTimeout)
      const underWay = new Roster<InFlight>()
      const idleListeners = new Set<() => void>()
      /** Verified deliveries that wait for memory or for their turn. */
      let waiting = 0
      let closed = false
      const lost: Array<CutOff> = []

      const isIdle = () => underWay.size === 0 && waiting === 0
      const ended = () => {
        if (isIdle()) { for (const listener of idleListeners) listener() }
      }

      const start = (delivery: Delivery, reservation: Reservation, entry: LedgerEntry) => {
        const { backends } = entry
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
            const isKept = entry.settled(backend, report)
            if (closed && !isKept && !Outcome.isSuccess(report.outcome)) lost.push({ delivery, backend })
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

      const result = (inFlight: InFlight, replyDeadline: number, { lateReply }: LedgerEntry) =>
        Effect.callback<SprayResult>((resume) => {
          const reply = (become: SprayResult) => {
            cancelDeadline()
            resume(Effect.succeed(become))
          }
          const cancelDeadline = timers.after(Math.max(0, replyDeadline - timers.now()), () => reply(lateReply))
          inFlight.onSettled(reply)
          return Effect.sync(cancelDeadline)
        })

      /** Without room, a delivery that is on disk is left for later. */
      const startDurable = (delivery: Delivery, reservation: Reservation, entry: LedgerEntry) => {
        if (!reservation.hold(chargeOf(entry.backends))) return abandon(reservation, entry)
        waiting += 1
        turns.run(() => {
          waiting -= 1
          if (closed) return abandon(reservation, entry)
          start(delivery, reservation, entry)
        })
      }

      const abandon = (reservation: Reservation, entry: LedgerEntry) => {
        reservation.release()
        entry.abandoned()
        ended()
      }

      const startAndAwait = (
        delivery: Delivery,
        reservation: Reservation,
        replyDeadline: number,
        entry: LedgerEntry,
        restore: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A, E>
      ): Effect.Effect<SprayResult, Overloaded> => {
        let inFlight: InFlight | undefined
        const begin = () => {
          if (!closed) inFlight = start(delivery, reservation, entry)
        }
        const awaited = (): Effect.Effect<SprayResult, Overloaded> => {
          if (inFlight !== undefined) return result(inFlight, replyDeadline, entry)
          reservation.release()
          entry.abandoned()
          return Effect.fail(new Overloaded({ waited: 0 }))
        }
        const hasRoom = reservation.hold(chargeOf(entry.backends))
        if (hasRoom && turns.isOpen()) {
          turns.run(begin)
          return restore(awaited())
        }
        const turn = Effect.callback<void>((resume) => {
          turns.run(() => {
            begin()
            resume(Effect.void)
          })
        })
        const room = hasRoom
          ? Effect.void
          : Effect.tapError(roomBefore(replyDeadline, reservation, timers), () => Effect.sync(entry.abandoned))
        waiting += 1
        const begun = Effect.andThen(room, turn).pipe(Effect.ensuring(Effect.sync(() => {
          waiting -= 1
          ended()
        })))
        return Effect.flatMap(begun, () => restore(Effect.suspend(awaited)))
      }

      const countInFlight = () => underWay.size + waiting
      yield* observableGauge(Names.deliveriesInFlight, countInFlight)

      return Spray.of({
        spray: (delivery, reservation, replyDeadline) =>
          // What is verified and complete is not lost because its sender has hung up meanwhile.
          Effect.uninterruptibleMask((restore) => {
            reservation.verified()
            return Effect.flatMap(ledger.record(delivery, registry.snapshot()), (entry) => {
              if (!entry.isDurable) return startAndAwait(delivery, reservation, replyDeadline, entry, restore)
              startDurable(delivery, reservation, entry)
              return Effect.succeed("accepted")
            })
          }),
        begin: startDurable,
        inFlight: countInFlight,
        idle: Effect.callback((resume) => {
          if (isIdle()) return resume(Effect.void)
          const listener = () => resume(Effect.void)
          idleListeners.add(listener)
          return Effect.sync(() => idleListeners.delete(listener))
        }),
        cutOff: Effect.sync(() => {
          // What is cut off makes room, and nothing may begin in it any more.
          closed = true
          for (const inFlight of underWay) inFlight.expire("cut off by the shutdown")
          return lost.splice(0)
        })
      })
    })
  )
}

/** What a delivery is charged beside its body: for its request, timers and log lines, and for each of its attempts. */
const deliveryBytes = 32 * 1024
const backendBytes = 4 * 1024

/** What a delivery to these backends is charged beside its body. */
export const chargeOf = (backends: ReadonlyArray<Backend>): number => deliveryBytes + backendBytes * backends.length

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
