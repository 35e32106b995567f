/** The built program with a store on PostgreSQL, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { setTimeout as pause } from "node:timers/promises"
import { nothingPending, scrape } from "../../crash/Operator.ts"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable, query, sharedPostgres } from "../../support/postgres/Postgres.ts"

describe.skipIf(postgresUnavailable() !== undefined)("a PostgreSQL that can be read and not written to", () => {
  it.live(
    "is down all the time, and gets then what became of the deliveries: none is sent again",
    () =>
      Effect.gen(function*() {
        const postgres = yield* sharedPostgres
        const store = yield* postgres.createDatabase
        const name = new URL(store).pathname.slice(1)
        const held: Array<() => void> = []
        const backend = yield* startBackend((_, response) => held.push(() => response.writeHead(202).end()))
        const args = ["--backend", backend.url, "--store", store, "--forwarding-timeout", "5s"]
        const program = yield* startProgram(args)
        const metricsPort = Number(
          (yield* Effect.promise(() => program.logged(({ msg }) => msg === "metrics listening")))["port"]
        )
        const up = async () => (await scrape(metricsPort)).value("sprayproxy_store_up")
        const set = (change: string) =>
          Effect.andThen(
            query(postgres.url("postgres"), `ALTER DATABASE ${name} ${change}`),
            query(
              postgres.url("postgres"),
              `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`
            )
          )
        yield* Effect.promise(async () => {
          for (let count = 0; count < 5; count += 1) assert.strictEqual((await deliver(program.port, "{}")).status, 202)
          await backend.receivedAtLeast(5)
        })
        yield* set("SET default_transaction_read_only = on")
        for (const answer of held) answer()
        yield* Effect.promise(async () => {
          await eventually(async () => await up() === 0, "the store's being down")
          for (let second = 0; second < 10; second += 1) {
            assert.strictEqual(await up(), 0)
            await pause(1_000)
          }
        })
        yield* set("RESET default_transaction_read_only")
        yield* Effect.promise(async () => {
          await eventually(async () => await up() === 1, "the store's being up")
          await nothingPending(program.port)
          assert.strictEqual(backend.received.length, 5)
        })
      }),
    120_000
  )

  it.live("for one delivery alone is up, and has all others", () =>
    Effect.gen(function*() {
      const postgres = yield* sharedPostgres
      const store = yield* postgres.createDatabase
      const backend = yield* startBackend()
      const program = yield* startProgram(["--backend", backend.url, "--store", store])
      const metricsPort = Number(
        (yield* Effect.promise(() => program.logged(({ msg }) => msg === "metrics listening")))["port"]
      )
      yield* Effect.promise(() => deliver(program.port, "{}"))
      yield* query(store, "ALTER TABLE deliveries ADD CONSTRAINT odd CHECK (event <> 'poison')")
      yield* Effect.promise(async () => {
        const events = Array.from({ length: 200 }, (_, at) => at % 40 === 7 ? "poison" : "push")
        // As many at once as a slow disk still takes one by one within the reply deadline.
        for (let from = 0; from < events.length; from += 10) {
          const some = events.slice(from, from + 10)
          const replies = await Promise.all(some.map((event) => deliver(program.port, "{}", { event })))
          assert.deepStrictEqual(
            replies.map(({ status }) => status),
            some.map((event) => event === "poison" ? 200 : 202)
          )
        }
        await backend.receivedAtLeast(201)
        const seen = await scrape(metricsPort)
        assert.strictEqual(seen.value("sprayproxy_store_fallbacks_total{reason=\"unstorable\"}"), 5)
        assert.strictEqual(seen.value("sprayproxy_store_up"), 1)
        await nothingPending(program.port)
        assert.strictEqual(backend.received.length, 201)
      })
    }), 60_000)
})
