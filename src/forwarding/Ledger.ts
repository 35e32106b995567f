/**
 * What is written down of deliveries. In direct mode nothing is, and a spray alone decides the reply.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"

/** One delivery's page. */
export interface LedgerEntry {
  /** Where it goes now. */
  readonly backends: ReadonlyArray<Backend>
  /** It is on disk: the reply need not wait for outcomes, and what is not attempted now will be later. */
  readonly isDurable: boolean
  /** The reply where it is due before the outcomes are known. With a store `accepted` would say that it is on disk. */
  readonly lateReply: "accepted" | "forwarding"
  /** Whether it is kept: as done, or to be attempted again. */
  readonly settled: (backend: Backend, report: AttemptReport) => boolean
  /** Nothing of it was attempted: there was no room. */
  readonly abandoned: () => void
}

export class Ledger extends Context.Service<Ledger, {
  /**
   * Writes a delivery down, and calls `done` once, perhaps before it returns. Never fails: what could not be written is an
   * entry that is not durable.
   */
  readonly record: (
    delivery: Delivery,
    backends: ReadonlyArray<Backend>,
    done: (entry: LedgerEntry) => void
  ) => void
}>()("sprayproxy/forwarding/Ledger") {
  /** Writes nothing down. */
  static readonly layerDirect = Layer.succeed(
    Ledger,
    Ledger.of({ record: (_delivery, backends, done) => done(unwritten(backends)) })
  )
}

/** The entry of a delivery that is not written down. */
export const unwritten = (backends: ReadonlyArray<Backend>): LedgerEntry => ({
  backends,
  isDurable: false,
  lateReply: "accepted",
  settled: isNotKept,
  abandoned: nothing
})

const isNotKept = () => false
const nothing = () => {}
