/**
 * Sprays a delivery: every backend at once, with one reply to GitHub.
 *
 * **Details**
 *
 * Attempts belong to the server, not to the request: a client that hangs up cancels nothing, and when the reply is due
 * before they have ended they go on behind it. Whoever has opened the delivery's reservation is told when nothing of it is under
 * way, and gives the memory back.
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
import { observableGauge } from "../observability/metrics/Series.ts"
import { Idleness } from "../runtime/Idleness.ts"
import { LiveSet, type Member } from "../runtime/LiveSet.ts"
import type { Reservation } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import { TurnBudget } from "../runtime/TurnBudget.ts"
import { Settings } from "../settings/Settings.ts"
import { type Attempt, type AttemptObserver, Forwarder } from "./Forwarder.ts"
import { Ledger, type LedgerEntry } from "./Ledger.ts"
import { Reply, type SprayObserver, type SprayResult } from "./Reply.ts"

/** An attempt that was ended before its outcome was known. */
export interface CutOff {
  readonly delivery: Delivery
  readonly backend: Backend
}

export class Spray extends Context.Service<Spray, {
  /**
   * Starts every attempt and waits for their outcomes until `replyDeadline` (on `Timers.now`). Charges the attempts to the
   * delivery's reservation until it has ended. The result ends the waiting for outcomes, and nothing else: what is verified
   * and complete is not lost because its sender has hung up.
   */
  readonly spray: (
    delivery: Delivery,
    reservation: Reservation,
    replyDeadline: number,
    observer: SprayObserver
  ) => () => void
  /** Starts the attempts of a delivery that nobody waits for. `ended`: see `SprayObserver`. */
  readonly begin: (delivery: Delivery, reservation: Reservation, entry: LedgerEntry, ended: () => void) => void
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
      const turns = yield* TurnBudget
      const ledger = yield* Ledger
      const forwardingTimeout = Duration.toMillis(settings.forwardingTimeout)
      const underWay = new LiveSet<InFlight>()
      /** Verified deliveries that wait for memory or for their turn. */
      let waiting = 0
      let closed = false
      const lost: Array<CutOff> = []

      const idleness = new Idleness(() => underWay.size === 0 && waiting === 0)

      const start = (delivery: Delivery, reservation: Reservation, entry: LedgerEntry, ended: () => void) => {
        const { backends } = entry
        const deadline = timers.now() + forwardingTimeout
        const cancelTimeout = timers.after(forwardingTimeout, () => inFlight.expire("no answer in time"))
        const inFlight = new InFlight(backends.length, reservation.bytes, () => {
          cancelTimeout()
          ended()
          underWay.delete(inFlight)
          idleness.check()
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

      /** Without room, a delivery that is on disk is left for later. */
      const startDurable = (
        delivery: Delivery,
        reservation: Reservation,
        entry: LedgerEntry,
        ended: () => void
      ) => {
        const abandon = () => {
          ended()
          entry.abandoned()
          idleness.check()
        }
        if (!reservation.hold(chargeOf(entry.backends))) return abandon()
        waiting += 1
        turns.run(() => {
          waiting -= 1
          if (closed) return abandon()
          start(delivery, reservation, entry, ended)
        })
      }

      const startAndReply = (delivery: Delivery, reservation: Reservation, entry: LedgerEntry, reply: Reply) => {
        const { observer } = reply
        const refuse = () => {
          observer.ended()
          entry.abandoned()
          reply.give("overloaded")
        }
        const begin = () => {
          if (closed) return refuse()
          reply.await(start(delivery, reservation, entry, () => observer.ended()), entry.lateReply)
        }
        const hasRoom = reservation.hold(chargeOf(entry.backends))
        if (hasRoom && turns.isOpen()) return turns.run(begin)
        waiting += 1
        const inTurn = () =>
          turns.run(() => {
            waiting -= 1
            begin()
            idleness.check()
          })
        if (hasRoom) return inTurn()
        whenRoom(reservation, reply.deadline, timers, inTurn, () => {
          waiting -= 1
          refuse()
          idleness.check()
        })
      }

      const countInFlight = () => underWay.size + waiting
      yield* observableGauge(Names.deliveriesInFlight, countInFlight)

      return Spray.of({
        spray: (delivery, reservation, replyDeadline, observer) => {
          const reply = new Reply(observer, replyDeadline, timers)
          reservation.verified()
          ledger.record(delivery, registry.snapshot(), (entry) => {
            if (!entry.isDurable) return startAndReply(delivery, reservation, entry, reply)
            startDurable(delivery, reservation, entry, () => observer.ended())
            reply.give("accepted")
          })
          return () => reply.leave()
        },
        begin: startDurable,
        inFlight: countInFlight,
        idle: idleness.await,
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

/** Calls `then` when there is room, or `late` at `deadline`. */
const whenRoom = (
  reservation: Reservation,
  deadline: number,
  timers: Timers["Service"],
  then: () => void,
  late: () => void
) => {
  const cancelDeadline = timers.after(Math.max(0, deadline - timers.now()), () => {
    leaveQueue()
    late()
  })
  const leaveQueue = reservation.wait(0, () => {
    cancelDeadline()
    then()
  })
}

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
