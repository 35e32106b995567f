/**
 * How this process lets go of a row that it owns: the backend's breaker is told first, then the store.
 *
 * **Details**
 *
 * Every row that was taken is let go of in one of three ways, once. Otherwise its breaker would wait for a probe that
 * never ends, and the row for the end of its lease.
 */
import * as Effect from "effect/Effect"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import { Timers } from "../runtime/Timers.ts"
import type { AttemptSettlement } from "../store/contract/Row.ts"
import type { Admission } from "./BackendBreakers.ts"
import { type AttemptedRow, SettlementPolicy } from "./SettlementPolicy.ts"
import { StoreWriter } from "./writing/StoreWriter.ts"

/** A row that this process owns, with the admission of its attempt. */
export interface OwnedRow extends AttemptedRow {
  /** A time of `Timers.now`, to which the row's age belongs. */
  readonly ownedAt: number
  readonly admission: Pick<Admission, "ended" | "notMade">
}

export const make = Effect.gen(function*() {
  const writer = yield* StoreWriter
  const policy = yield* SettlementPolicy
  const timers = yield* Timers

  const settlementOf = ({ age, id, isFresh, key, ownedAt, tries }: OwnedRow, report: AttemptReport) =>
    policy.settlement({ id, key, tries, isFresh, age: age + timers.now() - ownedAt }, report)

  return {
    /** An attempt was made. False: the row is dead. `settle` takes the settlement where it can't be written yet. */
    attempted: (
      row: OwnedRow,
      report: AttemptReport,
      settle: (settlement: AttemptSettlement) => void = writer.settle
    ) => {
      row.admission.ended(report)
      const settlement = settlementOf(row, report)
      settle(settlement)
      return settlement.become !== "dead"
    },

    /** No attempt could be made, which counts as one for all but the backend. False: the row is dead. */
    notSent: (row: OwnedRow, report: AttemptReport, become?: "dead") => {
      row.admission.notMade()
      const settlement = settlementOf(row, report)
      const final = become ?? settlement.become
      writer.settle({ ...settlement, become: final })
      return final !== "dead"
    },

    /** No attempt was made, because the backend is not to get the delivery any more. */
    cancel: ({ admission, id, key }: OwnedRow) => {
      admission.notMade()
      writer.settle({ id, key, attempt: undefined, become: "cancelled" })
    },

    /** No attempt was made, and none is counted. The row is due again in so many milliseconds. */
    giveBack: ({ admission, id, key }: OwnedRow, retryIn: number) => {
      admission.notMade()
      writer.settle({ id, key, attempt: undefined, become: { retryIn } })
    }
  }
})
