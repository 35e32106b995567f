/**
 * Sprays a delivery: every backend at once, with one reply to GitHub.
 *
 * **Details**
 *
 * Attempts belong to the server, not to the request. A client that hangs up cancels nothing, and attempts that have not
 * ended when the reply is due go on behind it. The opener of the delivery's reservation is told when nothing of the
 * delivery is under way, and then gives the memory back.
 *
 * The ledger comes first. A delivery that it has on disk is answered at once. For any other the outcomes decide the
 * reply.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Addressing from "../addressing/Addressing.ts"
import { BackendRegistry } from "../backends/Registry.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import * as Outcome from "../domain/Outcome.ts"
import { DeliveryLog } from "../observability/logs/DeliveryLog.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import * as Names from "../observability/metrics/Names.ts"
import { observableGauge } from "../observability/metrics/Series.ts"
import { Idleness } from "../runtime/Idleness.ts"
import { LiveSet } from "../runtime/LiveSet.ts"
import type { Reservation } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import { TurnBudget } from "../runtime/TurnBudget.ts"
import { Settings } from "../settings/Settings.ts"
import { Forwarder } from "./Forwarder.ts"
import { InFlight, type InFlightObserver } from "./InFlight.ts"
import { Ledger, type LedgerEntry } from "./Ledger.ts"
import { type EndObserver, Reply, type SprayObserver } from "./Reply.ts"
import { chargeOf, whenRoom } from "./Room.ts"

/** An attempt that was ended before its outcome was known. */
export interface CutOff {
  readonly delivery: Delivery
  readonly backend: Backend
}

export class Spray extends Context.Service<Spray, {
  /**
   * Starts every attempt, and waits for the outcomes until `replyDeadline` (a time of `Timers.now`). Charges the
   * attempts to the delivery's reservation until it has ended. The function that it returns ends only the waiting for
   * outcomes: a delivery that is verified and complete is not lost because its sender has hung up.
   */
  readonly spray: (
    delivery: Delivery,
    reservation: Reservation,
    replyDeadline: number,
    observer: SprayObserver
  ) => () => void
  /** Starts the attempts of a delivery that nobody waits for. */
  readonly begin: (delivery: Delivery, reservation: Reservation, entry: LedgerEntry, observer: EndObserver) => void
  /** How many deliveries have something under way. */
  readonly inFlight: () => number
  /** Waits until nothing is under way. */
  readonly idle: Effect.Effect<void>
  /** Ends everything that is under way. Returns the attempts that had no outcome yet and will not be made again. */
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
      const addressing = yield* Addressing.make
      const forwardingTimeout = Duration.toMillis(settings.forwardingTimeout)
      const underWay = new LiveSet<InFlight>()
      /** Verified deliveries that wait for memory or for their turn. */
      let waiting = 0
      let closed = false
      const lost: Array<CutOff> = []

      const idleness = new Idleness(() => underWay.size === 0 && waiting === 0)

      const ofAttempts: InFlightObserver = {
        attemptSettled: ({ delivery, entry }, backend, report) => {
          metrics.settled(backend, report)
          registry.recordOutcome(backend, report.outcome, Date.now())
          log.attempted(delivery, backend, report)
          const isKept = entry.settled(backend, report)
          if (closed && !isKept && !Outcome.isSuccess(report.outcome)) lost.push({ delivery, backend })
        },
        attemptEnded: (backend) => metrics.ended(backend),
        ended: (inFlight) => {
          underWay.delete(inFlight)
          idleness.check()
        }
      }

      const start = (delivery: Delivery, reservation: Reservation, entry: LedgerEntry, ended: () => void) => {
        const deadline = timers.now() + forwardingTimeout
        const inFlight = new InFlight(delivery, entry, reservation.bytes, ofAttempts, ended)
        const attempts = entry.backends.map((backend) => {
          metrics.began(backend)
          return forwarder.attempt(backend, delivery, deadline, inFlight)
        })
        underWay.add(inFlight)
        inFlight.start(attempts, timers.after(forwardingTimeout, () => inFlight.expire("no answer in time")))
        return inFlight
      }

      /** If there is no room, a delivery that is on disk is left for later. */
      const startDurable = (
        delivery: Delivery,
        reservation: Reservation,
        entry: LedgerEntry,
        observer: EndObserver
      ) => {
        const abandon = () => {
          observer.ended()
          entry.abandoned()
          idleness.check()
        }
        if (!reservation.hold(chargeOf(entry.backends))) return abandon()
        waiting += 1
        turns.run(() => {
          waiting -= 1
          begun(observer, () => {
            if (closed) return abandon()
            start(delivery, reservation, entry, () => observer.ended())
          })
          idleness.check()
        })
      }

      const startAndReply = (delivery: Delivery, reservation: Reservation, entry: LedgerEntry, reply: Reply) => {
        const ended = () => reply.observer.ended()
        const refuse = () => {
          ended()
          entry.abandoned()
          reply.give("overloaded")
        }
        const begin = () => {
          if (closed) return refuse()
          reply.await(start(delivery, reservation, entry, ended), entry.lateReply)
        }
        const hasRoom = reservation.hold(chargeOf(entry.backends))
        if (hasRoom && turns.isOpen()) return turns.run(begin)
        waiting += 1
        const go = () => {
          waiting -= 1
          begun(reply.observer, begin)
          idleness.check()
        }
        // A refusal needs no turn. It has to be out before the shutdown closes the connections.
        const inTurn = () => closed ? go() : turns.run(go)
        if (hasRoom) return inTurn()
        whenRoom(reservation, reply.deadline, timers, inTurn, () => {
          waiting -= 1
          refuse()
          idleness.check()
        })
      }

      /** Its payload may have to be read first. */
      const recordAddressed = (delivery: Delivery, reply: Reply, recorded: (entry: LedgerEntry) => void) => {
        waiting += 1
        addressing.addressees(delivery, (backends) => {
          waiting -= 1
          begun(reply.observer, () => {
            if (backends.length > 0) return ledger.record(delivery, backends, recorded)
            ledger.unmatched(delivery)
            reply.observer.ended()
            reply.give("unmatched")
          })
          idleness.check()
        })
      }

      const countInFlight = () => underWay.size + waiting
      yield* observableGauge(Names.deliveriesInFlight, countInFlight)

      return Spray.of({
        spray: (delivery, reservation, replyDeadline, observer) => {
          const reply = new Reply(observer, replyDeadline, timers)
          reservation.verified()
          const recorded = (entry: LedgerEntry) =>
            begun(observer, () => {
              if (!entry.isDurable) return startAndReply(delivery, reservation, entry, reply)
              startDurable(delivery, reservation, entry, observer)
              reply.give("accepted")
            })
          if (registry.isFiltered()) recordAddressed(delivery, reply, recorded)
          else ledger.record(delivery, registry.snapshot(), recorded)
          return () => reply.leave()
        },
        begin: (delivery, reservation, entry, observer) =>
          begun(observer, () => startDurable(delivery, reservation, entry, observer)),
        inFlight: countInFlight,
        idle: idleness.await,
        cutOff: Effect.sync(() => {
          // Ending attempts makes room, and nothing may begin in that room any more.
          closed = true
          // Refusals have to be out before the shutdown closes the connections, so they can't wait for later turns.
          turns.runAll()
          for (const inFlight of underWay) inFlight.expire("cut off by the shutdown")
          return lost.splice(0)
        })
      })
    })
  )
}

const begun = (observer: EndObserver, begin: () => void): void => {
  try {
    begin()
  } catch (defect) {
    observer.died(defect)
  }
}
