/** The built program with a store on PostgreSQL, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { noteDelivered, nothingPending } from "../../crash/Operator.ts"
import { startServer } from "../../crash/Server.ts"
import { Witness } from "../../crash/Witness.ts"
import { startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable, sharedPostgres } from "../../support/postgres/Postgres.ts"
import { newTraffic, patience } from "./Traffic.ts"

const backendsOf = async ({ port }: Program) => (await send(port, { method: "GET", path: "/backends" })).text

describe.skipIf(postgresUnavailable() !== undefined)("two replicas on one PostgreSQL", () => {
  it.live(
    "one is killed under load: the other delivers what it had begun, and nothing is lost",
    () =>
      Effect.gen(function*() {
        const postgres = yield* sharedPostgres
        const store = yield* postgres.createDatabase
        const sentTo = new Map<string, number>()
        let killed = 0
        const witness = new Witness(["steady", "slow"], (guid) => sentTo.get(guid) === killed)
        const { args, backends, targets, traffic } = yield* newTraffic(witness, (guid, port) => sentTo.set(guid, port))
        // Both at once: the second finds the first migrating.
        const replicas = yield* Effect.all([
          startServer([...args, "--store", store]),
          startServer([...args, "--store", store])
        ])
        const [victim, survivor] = replicas
        yield* Effect.promise(async () => {
          const [victimPort, survivorPort] = await Promise.all(replicas.map(async (one) => (await one.listening).port))
          targets.add(victimPort!)
          targets.add(survivorPort!)
          await eventually(() => witness.accepted >= 200)
          await noteDelivered(survivorPort!, backends, witness)
          killed = victimPort!
          await victim.kill()
          targets.remove(victimPort!)
          const before = witness.accepted
          await eventually(() => witness.accepted >= before + 200)
          await traffic.stop()
          await witness.allArrived(patience)
          assert.deepStrictEqual(witness.lost(), [])
          await nothingPending(survivorPort!)
          assert.strictEqual(await survivor.stop(), 0)
        })
        assert.deepStrictEqual(witness.wrongs, [])
      }),
    180_000
  )

  it.live(
    "one registers a backend, and both forward to it until the other unregisters it",
    () =>
      Effect.gen(function*() {
        const postgres = yield* sharedPostgres
        const store = yield* postgres.createDatabase
        const backend = yield* startBackend()
        const args = ["--store", store, "--enable-dynamic-backends"]
        const [one, other] = yield* Effect.all([startProgram(args), startProgram(args)], { concurrency: 2 })
        const change = (program: Program, method: string) =>
          send(program.port, { method, path: "/backends", body: JSON.stringify({ url: backend.url }) })
        yield* Effect.promise(async () => {
          assert.strictEqual((await change(one, "POST")).status, 200)
          await eventually(async () => (await backendsOf(other)).includes(backend.url))
          assert.strictEqual((await change(other, "POST")).status, 302)
          assert.strictEqual((await deliver(other.port, "{}")).status, 202)
          assert.strictEqual((await deliver(one.port, "{}")).status, 202)
          await backend.receivedAtLeast(2)
          assert.strictEqual((await change(other, "DELETE")).status, 200)
          await eventually(async () => !(await backendsOf(one)).includes(backend.url))
          assert.strictEqual((await change(one, "DELETE")).status, 404)
        })
      }),
    120_000
  )
})
