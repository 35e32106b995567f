/** Rows in memory: their state at a time, and the changes of it. */
import type { RowState } from "../../../src/store/contract/Row.ts"
import type { Delivery, Row } from "./Database.ts"

export const newRow = (key: string): Row => ({
  key,
  url: "",
  state: "pending",
  since: 0,
  tries: 0,
  dueAt: 0,
  owner: undefined,
  settledAt: undefined,
  lastOutcome: undefined,
  attempts: [],
  numbers: new Set()
})

/** Makes a row due as if it had just been received. */
export const askFor = (row: Row, now: number) => {
  row.state = "pending"
  row.since = now
  row.tries = 0
  row.dueAt = now
  row.owner = undefined
  row.settledAt = undefined
}

export const end = (row: Row, state: RowState, now: number) => {
  row.state = state
  row.owner = undefined
  row.settledAt = now
}

export const isUnderWay = (row: Row, now: number): boolean =>
  row.state === "pending" && row.owner !== undefined && row.dueAt > now

export const isDue = (row: Row, now: number): boolean => row.state === "pending" && row.dueAt <= now

export const newestFirst = (deliveries: ReadonlyMap<string, Delivery>): ReadonlyArray<Delivery> =>
  [...deliveries.values()].toSorted((a, b) => a.id < b.id ? 1 : -1)

export const rowsOf = (deliveries: ReadonlyMap<string, Delivery>): ReadonlyArray<readonly [Delivery, Row]> =>
  [...deliveries.values()].flatMap((delivery) => [...delivery.rows.values()].map((row) => [delivery, row] as const))
