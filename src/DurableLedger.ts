/**
 * The ledger that writes each delivery down before it is answered, and what becomes of it at each backend.
 *
 * **Details**
 *
 * - A delivery that can't be written is forwarded without the store, as in direct mode. If it was written after all, its
 *   rows are settled with the outcomes of that.
 * - A backend whose breaker is open gets its row, and no attempt now.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { hash } from "node:crypto"
import type { Backend } from "./Backend.ts"
import { BackendBreakers } from "./BackendBreakers.ts"
import type { Delivery } from "./Delivery.ts"
import type { NewDelivery, Recorded } from "./DeliveryStore.ts"
import type { WriteRequest } from "./DeliveryWrite.ts"
import type { AttemptReport } from "./Forwarder.ts"
import { Ledger, type LedgerEntry, unwritten } from "./Ledger.ts"
import * as Outcome from "./Outcome.ts"
import { SettlementPolicy } from "./SettlementPolicy.ts"
import { StoreWriter } from "./StoreWriter.ts"

export const layer = Layer.effect(
  Ledger,
  Effect.gen(function*() {
    const writer = yield* StoreWriter
    const breakers = yield* BackendBreakers
    const policy = yield* SettlementPolicy
    const { uuidV7 } = yield* SecureRandom

    const settle = (id: string, backend: Backend, report: AttemptReport) =>
      writer.settle(policy.settlement({ id, key: backend.key, tries: 0, age: 0 }, report))

    const durable = (id: string, backends: ReadonlyArray<Backend>): LedgerEntry => ({
      backends,
      isDurable: true,
      settled: (backend, report) => {
        breakers.ended(backend, Outcome.isSuccess(report.outcome))
        settle(id, backend, report)
      },
      abandoned: () => {
        for (const backend of backends) {
          breakers.notMade(backend)
          writer.settle({ id, key: backend.key, attempt: undefined, become: { retryIn: 0 } })
        }
      }
    })

    return Ledger.of({
      record: (delivery, backends) =>
        Effect.flatMap(uuidV7(), (id) =>
          Effect.callback<LedgerEntry>((resume) => {
            const held = backends.filter((backend) => !breakers.admits(backend))
            const fallback = new Fallback(id, settle)
            const request: WriteRequest = {
              size: delivery.body.length,
              delivery: () => newDelivery(id, delivery, backends, held),
              written: ({ id: recordedId, owned }) => {
                const isOwned = new Set(owned)
                for (const backend of backends) {
                  if (!isOwned.has(backend.key) && !held.includes(backend)) breakers.notMade(backend)
                }
                resume(Effect.succeed(durable(recordedId, backends.filter(({ key }) => isOwned.has(key)))))
              },
              refused: () => resume(Effect.succeed(fallback.entry(backends, breakers))),
              writtenLate: (recorded) => fallback.resolve(recorded)
            }
            writer.write(request)
          }))
    })
  })
)

/** The outcomes of a delivery that went without the store, for the case that it is there after all. */
class Fallback {
  readonly #settle: (id: string, backend: Backend, report: AttemptReport) => void
  readonly #outcomes: Array<readonly [Backend, AttemptReport]> = []
  #id: string
  #isResolved = false

  constructor(id: string, settle: (id: string, backend: Backend, report: AttemptReport) => void) {
    this.#id = id
    this.#settle = settle
  }

  entry(backends: ReadonlyArray<Backend>, breakers: BackendBreakers["Service"]): LedgerEntry {
    return {
      ...unwritten(backends),
      settled: (backend, report) => {
        breakers.ended(backend, Outcome.isSuccess(report.outcome))
        if (this.#isResolved) this.#settle(this.#id, backend, report)
        else this.#outcomes.push([backend, report])
      }
    }
  }

  resolve(recorded: Recorded | undefined): void {
    this.#id = recorded?.id ?? this.#id
    this.#isResolved = true
    for (const [backend, report] of this.#outcomes.splice(0)) this.#settle(this.#id, backend, report)
  }
}

const newDelivery = (
  id: string,
  delivery: Delivery,
  backends: ReadonlyArray<Backend>,
  held: ReadonlyArray<Backend>
): NewDelivery => {
  const body = delivery.body.toBuffer()
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
    bodyHash: hash("sha256", body, "hex"),
    targets: backends.map((backend) => ({ key: backend.key, url: backend.url, held: held.includes(backend) }))
  }
}

const headerOf = (headers: ReadonlyArray<string>, name: string): string | undefined => {
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]!.length === name.length && headers[at]!.toLowerCase() === name) return headers[at + 1]
  }
  return undefined
}
