/** The parts that all of the contract's tests share: a fresh store, and short words for its operations. */
import { assert, type Vitest } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { DeliveryStore } from "../../../src/store/DeliveryStore.ts"
import type { DeliveryFilter, RowView } from "../../../src/store/contract/Operator.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import type { Settlement, StoredAttempt } from "../../../src/store/contract/Row.ts"
import type { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"
import type { Retention } from "../../../src/store/contract/Upkeep.ts"
import {
  attemptOf,
  type Database,
  Databases,
  type Described,
  keyOf,
  newDelivery,
  newId,
  numbered
} from "../../support/StoreDatabases.ts"

/** The tests' `it`, with databases. */
export type ContractIt = Vitest.MethodsNonLive<Databases>

export type Store = DeliveryStore["Service"]

/** As GitHub sends it again: with an id of our own. */
export const again = (
  delivery: NewDelivery,
  { heldFor = "", to = "" }: Pick<Described, "to" | "heldFor">
): NewDelivery => ({
  ...delivery,
  ...newDelivery({ ...delivery, body: Buffer.concat(delivery.body), id: newId(), to, heldFor }),
  bodyHash: delivery.bodyHash
})

export const keep: Retention = { delivered: 1e12, dead: 1e12, maxAge: 1e12 }

export const setUp = Effect.gen(function*() {
  const { create } = yield* Databases
  const database = yield* create
  return subjectOf(database, yield* database.open("one"))
})

export const subjectOf = (database: Database, store: Store) => {
  const { elapse, now } = database

  const write = (...deliveries: ReadonlyArray<NewDelivery>) => store.write({ deliveries, settlements: [] })
  const settleAll = (...settlements: ReadonlyArray<Settlement>) =>
    store.write({ deliveries: [], settlements: settlements.map(numbered) })
  const settle = (
    id: string,
    name: string,
    become: Settlement["become"],
    attempt: StoredAttempt | undefined = undefined
  ) => settleAll({ id, key: keyOf(name), attempt, become })
  const view = Effect.fnUntraced(function*(id: string) {
    const [shown] = yield* store.show(id)
    return assertDefined(shown, `delivery ${id}`)
  })
  const row = (id: string, name: string) =>
    Effect.map(view(id), ({ rows }) => assertDefined(rows.find(({ key }) => key === keyOf(name)), `row ${name}`))
  const claim = (name: string, limit = 100, order: "oldest" | "newest" = "oldest") =>
    Effect.map(store.claim(keyOf(name), limit, order), (claimed) => claimed.map(({ id }) => id))
  const isDue = (name: string) => Effect.map(store.due([keyOf(name)]), (due) => due.length > 0)
  /** Until there is no more. */
  const prune = Effect.fnUntraced(function*(retention: Partial<Retention>, limit = 100) {
    let steps = 1
    for (; steps < 100 && (yield* store.prune({ ...keep, ...retention }, limit)); steps += 1) {
      /* the next step */
    }
    return steps
  })
  /** Its pending rows become cancelled: it was registered and is no more. */
  const cancel = Effect.fnUntraced(function*(name: string) {
    yield* store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined }, 1_000)
    assert.isTrue(yield* store.deleteBackend(keyOf(name)))
  })
  const listed = (filter: DeliveryFilter) =>
    Effect.map(store.list(filter, { limit: 100 }), ({ deliveries }) => deliveries.map(({ id }) => id))
  return { cancel, claim, database, elapse, isDue, listed, now, prune, row, settle, settleAll, store, view, write }
}

/** Of what a database tells late, by a clock that is not the test's. All its connections have something to do meanwhile. */
export const eventually = Effect.fnUntraced(function*(store: Store, isSo: Effect.Effect<boolean, StoreUnavailable>) {
  for (let looks = 0; looks < 400; looks += 1) {
    if (yield* isSo) return true
    yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 50)))
    yield* Effect.all(Array.from({ length: 8 }, () => store.due([])), { concurrency: 8, discard: true })
  }
  return false
})

export const assertDefined = <A>(value: A | undefined, what: string): A => {
  assert.isDefined(value, what)
  return value!
}

export const outcomeOf = (id: string, at: number, become: Settlement["become"]): Settlement => ({
  id,
  key: keyOf("a"),
  attempt: attemptOf(at),
  become
})

/** A text without NUL, which a store may replace. */
export const withoutNul = ({ answer, ...attempt }: StoredAttempt & { readonly key: string }) => ({
  ...attempt,
  answer: answer?.replace(/[\0\ufffd]/, "")
})

export const stateOf = ({ state }: RowView) => state

export const keysOf = (names: string) => [...names].map(keyOf)

export const sorted = (texts: ReadonlyArray<string>) => texts.toSorted()

export const hours = (count: number) => count * 3_600_000
