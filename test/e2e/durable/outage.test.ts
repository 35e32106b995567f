/** The built program with a store on PostgreSQL, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { nothingPending, scrape } from "../../crash/Operator.ts"
import { startServer } from "../../crash/Server.ts"
import { Witness } from "../../crash/Witness.ts"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable, startPostgres } from "../../support/postgres/Postgres.ts"
import { newTraffic, patience } from "./Traffic.ts"

describe.skipIf(postgresUnavailable() !== undefined)("a PostgreSQL that goes away under load", () => {
  it.live("is done without meanwhile, and used again when it is back", () =>
    Effect.gen(function*() {
      const postgres = yield* startPostgres
      const store = yield* postgres.createDatabase
      const witness = new Witness(["steady", "slow"])
      const { args, targets, traffic } = yield* newTraffic(witness, () => {})
      const server = yield* startServer([...args, "--store", store])
      const { metricsPort, port } = yield* Effect.promise(() => server.listening)
      const up = async () => (await scrape(metricsPort)).value("sprayproxy_store_up")
      const direct = () => witness.otherReplies.get(200) ?? 0
      targets.add(port)
      yield* Effect.promise(() => eventually(() => witness.accepted >= 100))
      assert.strictEqual(yield* Effect.promise(up), 1)

      for (const outage of [postgres.stop, postgres.kill]) {
        yield* outage
        yield* Effect.promise(async () => {
          await eventually(async () => await up() === 0, "the store's being down")
          const before = direct()
          await eventually(() => direct() >= before + 200)
        })
        yield* postgres.start
        yield* Effect.promise(async () => {
          await eventually(async () => await up() === 1, "the store's being up")
          const before = witness.accepted
          await eventually(() => witness.accepted >= before + 100)
        })
      }
      yield* Effect.promise(async () => {
        const seen = await scrape(metricsPort)
        const fallbacks = seen.keysWith("sprayproxy_store_fallbacks_total").map((key) => seen.value(key))
        await traffic.stop()
        assert.isAtLeast(fallbacks.reduce((sum, count) => sum + count, 0), 400)
        await witness.allArrived(patience)
        assert.deepStrictEqual(witness.lost(), [])
        await nothingPending(port)
        assert.strictEqual(await server.stop(), 0)
      })
      // Nothing but 200 and 202 was answered.
      assert.deepStrictEqual([...witness.otherReplies.keys()], [200])
      assert.deepStrictEqual(witness.wrongs, [])
    }), 180_000)
})
