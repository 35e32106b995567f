/**
 * The ledger of durable mode. It writes each delivery down before it is answered, and then the outcome at each backend.
 *
 * **Details**
 *
 * - A delivery that can't be written is forwarded without the store, as in direct mode. If it was written after all,
 *   its rows are settled with the outcomes of those attempts.
 * - A backend whose breaker does not admit the delivery gets its row, but no attempt now.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import { Ledger, type LedgerEntry, unwritten } from "../forwarding/Ledger.ts"
import { Timers } from "../runtime/Timers.ts"
import type { NewDelivery, Recorded } from "../store/contract/Queue.ts"
import type { Settlement } from "../store/contract/Row.ts"
import { type Admission, BackendBreakers } from "./BackendBreakers.ts"
import { bodyHashOf, hookIdOf } from "./Fingerprint.ts"
import * as Settling from "./Settling.ts"
import type { OwnedRow } from "./Settling.ts"
import { FallbackRecords } from "./fallback/FallbackRecords.ts"
import { DeliveryIds } from "./writing/DeliveryIds.ts"
import type { WriteRequest } from "./writing/DeliveryWrite.ts"
import { StoreWriter } from "./writing/StoreWriter.ts"

export const layer = Layer.effect(
  Ledger,
  Effect.gen(function*() {
    const ids = yield* DeliveryIds
    const writer = yield* StoreWriter
    const breakers = yield* BackendBreakers
    const settling = yield* Settling.make
    const timers = yield* Timers
    const records = yield* FallbackRecords

    const durable = ({ id, isRedelivery }: Recorded, admissions: Admissions, since: number): LedgerEntry => {
      const owned = (backend: Backend) => rowOf(backend, id, !isRedelivery, admissions, since)
      return {
        backends: [...admissions.keys()],
        isDurable: true,
        lateReply: "accepted",
        settled: (backend, report) => settling.attempted(owned(backend), report),
        abandoned: () => {
          for (const backend of admissions.keys()) settling.giveBack(owned(backend), 0)
        }
      }
    }

    const undurable = (
      id: string,
      delivery: Delivery,
      admissions: Admissions,
      since: number,
      fallback: Fallback
    ): LedgerEntry => {
      const backends = [...admissions.keys()]
      const record = records.begin(delivery, backends)
      return {
        ...unwritten(backends),
        lateReply: "forwarding",
        settled: (backend, report) => {
          settling.attempted(rowOf(backend, id, false, admissions, since), report, (settlement) => {
            fallback.settle(settlement)
            record.ended(backend.key, settlement.become)
          })
          return false
        },
        abandoned: () => {
          for (const admission of admissions.values()) admission.notMade()
          record.abandoned()
        }
      }
    }

    const admit = (backends: ReadonlyArray<Backend>): Admissions => {
      const admissions = new Map<Backend, Admission>()
      for (const backend of backends) {
        const admission = breakers.admitFresh(backend)
        if (admission !== undefined) admissions.set(backend, admission)
      }
      return admissions
    }

    /** Admits the held backends too: without the store nobody would send the delivery to them later. */
    const withHeld = (backends: ReadonlyArray<Backend>, admissions: Admissions): Admissions =>
      new Map(backends.map((backend) => [backend, admissions.get(backend) ?? breakers.admitAnyway(backend)]))

    return Ledger.of({
      // If GitHub was asked for it, it has arrived.
      unmatched: (delivery) => records.begin(delivery, []).abandoned(),
      record: (delivery, backends, done) => {
        const id = ids.next()
        const since = timers.now()
        const admissions = admit(backends)
        const fallback = new Fallback(writer.settle)
        const request: WriteRequest = {
          size: delivery.body.length,
          delivery: () => newDelivery(id, delivery, backends, admissions),
          written: (recorded) => done(durable(recorded, ownedOf(admissions, recorded.owned), since)),
          refused: () => done(undurable(id, delivery, withHeld(backends, admissions), since, fallback)),
          writtenLate: (recorded) => fallback.resolve(recorded)
        }
        writer.write(request)
      }
    })
  })
)

/** The backends that may be attempted now. */
type Admissions = ReadonlyMap<Backend, Admission>

/** `since`: when the delivery came, on `Timers.now`. */
const rowOf = (backend: Backend, id: string, isFresh: boolean, admissions: Admissions, since: number): OwnedRow => ({
  id,
  key: backend.key,
  tries: 0,
  isFresh,
  age: 0,
  ownedAt: since,
  admission: admissions.get(backend)!
})

/** The backends whose rows this process owns. */
const ownedOf = (admissions: Admissions, owned: ReadonlyArray<string>): Admissions => {
  if (owned.length === admissions.size) return admissions
  const isOwned = new Set(owned)
  const left = new Map<Backend, Admission>()
  for (const [backend, admission] of admissions) {
    if (isOwned.has(backend.key)) left.set(backend, admission)
    else admission.notMade()
  }
  return left
}

/** Keeps the settlements of a delivery that went without the store, in case it is in the store after all. */
class Fallback {
  readonly #write: (settlement: Settlement) => void
  readonly #waiting: Array<Settlement> = []
  #id: string | undefined
  #isResolved = false

  constructor(write: (settlement: Settlement) => void) {
    this.#write = write
  }

  readonly settle = (settlement: Settlement): void => {
    if (!this.#isResolved) this.#waiting.push(settlement)
    else this.#write({ ...settlement, id: this.#id ?? settlement.id })
  }

  resolve(recorded: Recorded | undefined): void {
    this.#id = recorded?.id
    this.#isResolved = true
    for (const settlement of this.#waiting.splice(0)) this.settle(settlement)
  }
}

const newDelivery = (
  id: string,
  delivery: Delivery,
  backends: ReadonlyArray<Backend>,
  admissions: Admissions
): NewDelivery => {
  return {
    id,
    requestId: delivery.requestId,
    hookId: hookIdOf(delivery),
    guid: delivery.guid,
    event: delivery.event,
    method: delivery.method,
    target: delivery.target,
    headers: delivery.headers,
    body: delivery.body.chunks,
    bodyHash: bodyHashOf(delivery),
    targets: backends.map((backend) => ({ key: backend.key, url: backend.url, held: !admissions.has(backend) }))
  }
}
