/** The built program with a store on PostgreSQL, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Agent } from "node:http"
import { nothingPending } from "../../crash/Operator.ts"
import { startBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { pgBouncerUnavailable, startPgBouncer } from "../../support/postgres/PgBouncer.ts"
import { query, sharedPostgres } from "../../support/postgres/Postgres.ts"

const sessionSettings =
  "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,enable_seqscan,enable_hashjoin,enable_mergejoin,jit"

describe.skipIf(pgBouncerUnavailable() !== undefined)("a PgBouncer in transaction mode", () => {
  it.live.each([
    { startup: "refuses the parameters that it does not know", ignored: undefined },
    { startup: "ignores them", ignored: sessionSettings }
  ])(
    "that $startup keeps all of 700 deliveries with two connections to the server",
    ({ ignored }) =>
      Effect.gen(function*() {
        const postgres = yield* sharedPostgres
        const database = yield* postgres.createDatabase
        const store = yield* startPgBouncer(database, {
          pool_mode: "transaction",
          default_pool_size: 2,
          ...(ignored === undefined ? {} : { ignore_startup_parameters: ignored })
        })
        const backend = yield* startBackend()
        const program = yield* startProgram(["--store", store, "--backend", backend.url])
        const senders = 64
        yield* Effect.promise(async () => {
          const replies = new Map<number, number>()
          await Promise.all(Array.from({ length: senders }, async (_, sender) => {
            const agent = new Agent({ keepAlive: true, maxSockets: 1 })
            for (let at = sender; at < 700; at += senders) {
              // oxlint-disable-next-line no-await-in-loop -- one after the other
              const { status } = await deliver(program.port, JSON.stringify({ at, pad: "x".repeat(7_000) }), { agent })
              replies.set(status, (replies.get(status) ?? 0) + 1)
            }
            agent.destroy()
          }))
          assert.deepStrictEqual([...replies], [[202, 700]])
          await backend.receivedAtLeast(700)
          await nothingPending(program.port)
        })
        const [kept] = yield* query(database, "SELECT count(*)::integer AS count FROM deliveries")
        assert.strictEqual(kept.count, 700)
        const told = program.logs.filter(({ level }) => level === "warn" || level === "error")
        // Of a busy machine something may take too long; whatever PgBouncer can't do has other words.
        assert.deepStrictEqual(told.filter(({ reason }) => reason !== "PostgreSQL took too long"), [])
      }),
    120_000
  )
})
