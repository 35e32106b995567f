/**
 * The port through which forwarding writes a delivery down. In direct mode it writes nothing, and the outcomes alone
 * decide the reply.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import type { Delivery } from "../domain/Delivery.ts"

/** The ledger's entry of one delivery: it says how to treat the delivery, and is told its outcomes. */
export interface LedgerEntry {
  /** The backends that the delivery goes to now. */
  readonly backends: ReadonlyArray<Backend>
  /**
   * The delivery is on disk. The reply need not wait for outcomes, and attempts that can't be made now will be made
   * later.
   */
  readonly isDurable: boolean
  /**
   * The reply that is given if it is due before the outcomes are known. With a store, `accepted` would say that the
   * delivery is on disk.
   */
  readonly lateReply: "accepted" | "forwarding"
  /** Whether the outcome is kept: the row is finished, or will be attempted again. */
  readonly settled: (backend: Backend, report: AttemptReport) => boolean
  /** No attempt was made, because there was no room. */
  readonly abandoned: () => void
}

const nothing = () => {}

export class Ledger extends Context.Service<Ledger, {
  /**
   * Writes a delivery down, and calls `done` once, perhaps before it returns. It never fails: a delivery that could not
   * be written has an entry that is not durable.
   */
  readonly record: (
    delivery: Delivery,
    backends: ReadonlyArray<Backend>,
    done: (entry: LedgerEntry) => void
  ) => void
  /** No backend wants the delivery. It is not written down. */
  readonly unmatched: (delivery: Delivery) => void
}>()("sprayproxy/forwarding/Ledger") {
  /** Writes nothing down. */
  static readonly layerDirect = Layer.succeed(
    Ledger,
    Ledger.of({ record: (_delivery, backends, done) => done(unwritten(backends)), unmatched: nothing })
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
