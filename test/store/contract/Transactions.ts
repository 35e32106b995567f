/** That a batch is one transaction, whatever is in it. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Settlement } from "../../../src/store/contract/Row.ts"
import { attemptOf, keyOf, newDelivery, numbered } from "../../support/StoreDatabases.ts"
import { again, type ContractIt, setUp } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("a batch is one transaction", () => {
    it.effect.each(["the writer knows which these are", "it takes all for first ones"] as const)(
      "with a first success, one after a retry, one of a row that is no longer young and a failure, where %s",
      (words) =>
        Effect.gen(function*() {
          const { claim, database, elapse, now, store, write } = yield* setUp
          const [old, first, retried, failed, fresh] = [
            newDelivery(),
            newDelivery(),
            newDelivery(),
            newDelivery(),
            newDelivery()
          ]
          yield* write(old)
          yield* elapse(11_000)
          yield* write(first, retried, failed)
          const at = yield* now
          const outcome = (id: string, become: Settlement["become"], isFirst: boolean) =>
            numbered({
              id,
              key: keyOf("a"),
              isFirst: isFirst || words === "it takes all for first ones",
              attempt: attemptOf(at, { outcome: become === "delivered" ? "delivered" : "failed" }),
              become
            })
          yield* store.write({ deliveries: [], settlements: [outcome(retried.id, { retryIn: 0 }, true)] })
          assert.deepStrictEqual(yield* claim("a"), [retried.id])
          const transactions = yield* database.transactionsOf(store.write({
            deliveries: [fresh],
            settlements: [
              outcome(first.id, "delivered", true),
              outcome(retried.id, "delivered", false),
              outcome(old.id, "delivered", false),
              outcome(failed.id, { retryIn: 60_000 }, true)
            ]
          }))
          const { deliveries } = yield* store.list({}, { limit: 10 })
          const rows = new Map(deliveries.map(({ id, rows: [row] }) => [id, [row!.state, row!.tries]]))
          assert.deepStrictEqual([first, retried, old, failed, fresh].map(({ id }) => rows.get(id)), [
            ["delivered", 1],
            ["delivered", 2],
            ["delivered", 1],
            ["pending", 1],
            ["pending", 0]
          ])
          assert.strictEqual(transactions, 1)
        })
    )

    it.effect("with a delivery that is known already beside outcomes", () =>
      Effect.gen(function*() {
        const { database, store, write } = yield* setUp
        const [known, first] = [newDelivery(), newDelivery()]
        yield* write(known, first)
        const attempt = attemptOf(1, { outcome: "delivered" })
        const transactions = yield* database.transactionsOf(store.write({
          deliveries: [again(known, { to: "b" }), newDelivery()],
          settlements: [numbered({ id: first.id, key: keyOf("a"), attempt, become: "delivered" })]
        }))
        assert.strictEqual(transactions, 1)
      }))
  })
}
