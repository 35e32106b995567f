/** The parts that the tests of recovery's contract share. */
import * as Effect from "effect/Effect"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import type { FallbackEnd, FallbackRecord, GivenUp, Wanted } from "../../../src/store/contract/Recovery.ts"
import { Databases, type Described, keyOf, newDelivery } from "../../support/StoreDatabases.ts"
import { subjectOf } from "./Subject.ts"

export const missing = (guid: string, described: Partial<Wanted> = {}): Wanted => ({
  guid,
  event: "push",
  attemptId: "1",
  failedAt: 1,
  priority: 0,
  ...described
})

export const givenUp = (guid: string, reason: string, described: Partial<Wanted> = {}): GivenUp => ({
  ...missing(guid, described),
  reason
})

/** The delivery of that GUID, as it comes whenever GitHub sends it. */
export const deliveryOf = (guid: string, described: Described = {}): NewDelivery =>
  newDelivery({ guid, body: Buffer.from(guid), ...described })

/** The record of that delivery as a fallback, with its end at each backend by name. */
export const endsOf = (guid: string, ends: Readonly<Record<string, FallbackEnd>>, age = 0): FallbackRecord => {
  const { bodyHash, hookId } = deliveryOf(guid)
  return {
    guid,
    hookId,
    bodyHash,
    age,
    backends: Object.entries(ends).map(([name, end]) => ({ key: keyOf(name), end }))
  }
}

export const setUpRecovery = Effect.gen(function*() {
  const { create } = yield* Databases
  const database = yield* create
  const { recovery, store } = yield* database.openRecovering("one")
  const subject = subjectOf(database, store)
  return {
    ...subject,
    recovery,
    want: (...wanted: ReadonlyArray<Wanted>) => recovery.want(wanted, { anew: false }),
    /** The GUIDs of up to so many that are due. */
    due: (limit = 100) => Effect.map(recovery.wanted(limit), (found) => found.map(({ guid }) => guid)),
    /** By GUID. */
    recall: (...guids: ReadonlyArray<string>) =>
      Effect.map(recovery.recall(guids, undefined), (found) => found.toSorted((a, b) => a.guid < b.guid ? -1 : 1)),
    /** GitHub sends it. Returns the names of the backends to which it goes at once. */
    arrive: (guid: string, described: Described = {}) =>
      Effect.map(subject.write(deliveryOf(guid, described)), ([recorded]) => recorded!.owned)
  }
})
