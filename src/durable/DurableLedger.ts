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
import { uuidV7Unsafe } from "effect/crypto/SecureRandom"
import { createHash, hash } from "node:crypto"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"
import { headerOf } from "../domain/ForwardedHeaders.ts"
import { Ledger, type LedgerEntry, unwritten } from "../forwarding/Ledger.ts"
import { Timers } from "../runtime/Timers.ts"
import type { NewDelivery, Recorded } from "../store/contract/Queue.ts"
import { type Admission, BackendBreakers } from "./BackendBreakers.ts"
import type { WriteRequest } from "./DeliveryWrite.ts"
import { SettlementPolicy } from "./SettlementPolicy.ts"
import { StoreWriter } from "./StoreWriter.ts"

export const layer = Layer.effect(
  Ledger,
  Effect.gen(function*() {
    const writer = yield* StoreWriter
    const breakers = yield* BackendBreakers
    const policy = yield* SettlementPolicy
    const timers = yield* Timers

    const settlementOf = (id: string, backend: Backend, report: AttemptReport, since: number, isFresh: boolean) =>
      policy.settlement({ id, key: backend.key, tries: 0, isFresh, age: timers.now() - since }, report)

    const durable = ({ id, isRedelivery }: Recorded, admissions: Admissions, since: number): LedgerEntry => ({
      backends: [...admissions.keys()],
      isDurable: true,
      lateReply: "accepted",
      settled: (backend, report) => {
        admissions.get(backend)!.ended(report)
        const settlement = settlementOf(id, backend, report, since, !isRedelivery)
        writer.settle(settlement)
        return settlement.become !== "dead"
      },
      abandoned: () => {
        for (const [backend, admission] of admissions) {
          admission.notMade()
          writer.settle({ id, key: backend.key, attempt: undefined, become: { retryIn: 0 } })
        }
      }
    })

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
      record: (delivery, backends, done) => {
        const id = uuidV7Unsafe()
        const since = timers.now()
        const admissions = admit(backends)
        const fallback = new Fallback(
          id,
          (settledId, backend, report) => writer.settle(settlementOf(settledId, backend, report, since, false))
        )
        const request: WriteRequest = {
          size: delivery.body.length,
          delivery: () => newDelivery(id, delivery, backends, admissions),
          written: (recorded) => done(durable(recorded, ownedOf(admissions, recorded.owned), since)),
          refused: () => done(undurable(withHeld(backends, admissions), fallback)),
          writtenLate: (recorded) => fallback.resolve(recorded)
        }
        writer.write(request)
      }
    })
  })
)

/** The backends that may be attempted now. */
type Admissions = ReadonlyMap<Backend, Admission>

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

/** Keeps the outcomes of a delivery that went without the store, in case it is in the store after all. */
class Fallback {
  readonly #settle: (id: string, backend: Backend, report: AttemptReport) => void
  readonly #outcomes: Array<readonly [Backend, AttemptReport]> = []
  #id: string
  #isResolved = false

  constructor(id: string, settle: (id: string, backend: Backend, report: AttemptReport) => void) {
    this.#id = id
    this.#settle = settle
  }

  settled(backend: Backend, report: AttemptReport): void {
    if (this.#isResolved) this.#settle(this.#id, backend, report)
    else this.#outcomes.push([backend, report])
  }

  resolve(recorded: Recorded | undefined): void {
    this.#id = recorded?.id ?? this.#id
    this.#isResolved = true
    for (const [backend, report] of this.#outcomes.splice(0)) this.#settle(this.#id, backend, report)
  }
}

const undurable = (admissions: Admissions, fallback: Fallback): LedgerEntry => ({
  ...unwritten([...admissions.keys()]),
  lateReply: "forwarding",
  settled: (backend, report) => {
    admissions.get(backend)!.ended(report)
    fallback.settled(backend, report)
    return false
  },
  abandoned: () => {
    for (const admission of admissions.values()) admission.notMade()
  }
})

const newDelivery = (
  id: string,
  delivery: Delivery,
  backends: ReadonlyArray<Backend>,
  admissions: Admissions
): NewDelivery => {
  const body = delivery.body.chunks
  return {
    id,
    requestId: delivery.requestId,
    hookId: headerOf(delivery.headers, "x-github-hook-id") ?? "",
    guid: delivery.guid,
    event: delivery.event,
    method: delivery.method,
    target: delivery.target,
    headers: delivery.headers,
    body,
    bodyHash: sha256(body),
    targets: backends.map((backend) => ({ key: backend.key, url: backend.url, held: !admissions.has(backend) }))
  }
}

const sha256 = (chunks: ReadonlyArray<Buffer>): string => {
  if (chunks.length === 1) return hash("sha256", chunks[0]!, "hex")
  const digest = createHash("sha256")
  for (const chunk of chunks) digest.update(chunk)
  return digest.digest("hex")
}
