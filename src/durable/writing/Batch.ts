/** The content of one transaction, and how it is split if something in it can't be written. */
import type { NumberedSettlement } from "../../store/contract/Row.ts"
import type { DeliveryWrite } from "./DeliveryWrite.ts"

export interface StoreBatch {
  readonly deliveries: ReadonlyArray<DeliveryWrite>
  readonly settlements: ReadonlyArray<NumberedSettlement>
}

export const isEmpty = ({ deliveries, settlements }: StoreBatch): boolean =>
  deliveries.length === 0 && settlements.length === 0

/** Two batches to be written one after the other instead. Undefined if the batch is a single thing. */
export const split = ({ deliveries, settlements }: StoreBatch): readonly [StoreBatch, StoreBatch] | undefined => {
  if (deliveries.length > 0 && settlements.length > 0) {
    return [{ deliveries, settlements: [] }, { deliveries: [], settlements }]
  }
  const middle = Math.floor(Math.max(deliveries.length, settlements.length) / 2)
  if (middle === 0) return undefined
  return [
    { deliveries: deliveries.slice(0, middle), settlements: settlements.slice(0, middle) },
    { deliveries: deliveries.slice(middle), settlements: settlements.slice(middle) }
  ]
}

export const joined = (batches: ReadonlyArray<StoreBatch>): StoreBatch => ({
  deliveries: batches.flatMap(({ deliveries }) => deliveries),
  settlements: batches.flatMap(({ settlements }) => settlements)
})

/** A batch that has waited for the store: its rows may not be young any more, or may have been written already. */
export const afterOutage = ({ deliveries, settlements }: StoreBatch): StoreBatch => ({
  deliveries,
  settlements: settlements.map((settlement) => ({ ...settlement, isFirst: false }))
})

/** The settlement without texts from outside, which the store may refuse. Undefined if it has none. */
export const withoutTexts = (settlement: NumberedSettlement): NumberedSettlement | undefined => {
  const { attempt } = settlement
  if (attempt?.answer === undefined && attempt?.error === undefined) return undefined
  return { ...settlement, attempt: { ...attempt, error: undefined, answer: undefined } }
}
