/** The built program with a store on SQLite, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { startCrashBackend } from "../../crash/Backends.ts"
import { list } from "../../crash/Operator.ts"
import { Random } from "../../crash/Random.ts"
import { startServer } from "../../crash/Server.ts"
import { startTraffic, Targets } from "../../crash/Traffic.ts"
import { Witness } from "../../crash/Witness.ts"
import { startBackend } from "../../support/Backend.ts"
import { send } from "../../support/GitHub.ts"
import type { Program } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import {
  changeBackend,
  deliverAs,
  guidsOf,
  isInState,
  killAndWait,
  newGuids,
  newStore,
  startDurable,
  startIllBackend
} from "./DurableProgram.ts"

interface ListedBackend {
  readonly url: string
  readonly registeredAt: string
  readonly expiresAt: string | null
}

const backendsOf = async (program: Program) => {
  const accepting = { headers: { accept: "application/json" } }
  const { text } = await send(program.port, { method: "GET", path: "/backends", ...accepting })
  return JSON.parse(text) as ReadonlyArray<ListedBackend>
}

describe("a restart", () => {
  it.live(
    "after SIGTERM under load goes on with what was not delivered, and sends nothing twice",
    () =>
      Effect.gen(function*() {
        const random = new Random(5)
        const witness = new Witness(["steady", "slow", "away"])
        const backends = yield* Effect.all([
          startCrashBackend(witness, random, { name: "steady" }),
          startCrashBackend(witness, random, { name: "slow", delay: 300 }),
          startCrashBackend(witness, random, { name: "away" })
        ])
        const away = backends[2]
        const targets = new Targets()
        const traffic = yield* startTraffic({ targets, witness, random, connections: 8, pause: 10 })
        const args = [...backends.flatMap(({ url }) => ["--backend", url]), "--store", yield* newStore]
        yield* Effect.promise(() => away.down())

        witness.life = 1
        const first = yield* startServer(args)
        const { port } = yield* Effect.promise(() => first.listening)
        targets.add(port)
        yield* Effect.promise(async () => {
          await eventually(() => witness.accepted >= 100)
          const stopped = first.stop()
          await eventually(() => witness.otherReplies.size > 0, "the end of the listener")
          targets.remove(port)
          assert.strictEqual(await stopped, 0)
        })

        witness.life = 2
        const second = yield* startServer(args)
        targets.add((yield* Effect.promise(() => second.listening)).port)
        yield* Effect.promise(async () => {
          await eventually(() => witness.accepted >= 200)
          await traffic.stop()
          await away.up()
          await witness.allArrived(90_000)
          assert.deepStrictEqual(witness.lost(), [])
          assert.strictEqual(await second.stop(), 0)
        })
        assert.deepStrictEqual(witness.duplicates(), { steady: 0, slow: 0, away: 0 })
        assert.deepStrictEqual(witness.wrongs, [])
      }),
    120_000
  )

  it.live("keeps the dynamic backends, and when they expire", () =>
    Effect.gen(function*() {
      const [lasting, passing] = yield* Effect.all([startBackend(), startBackend()])
      const store = yield* newStore
      const first = yield* startDurable(store, [])
      yield* Effect.promise(async () => {
        await changeBackend(first, "POST", lasting.url)
        await changeBackend(first, "POST", passing.url, "24h")
        await killAndWait(first)
      })
      const second = yield* startDurable(store, [])
      const kept = yield* Effect.promise(async () => {
        const listed = await backendsOf(second)
        assert.deepStrictEqual(listed.map(({ url }) => url).toSorted(), [lasting.url, passing.url].toSorted())
        assert.isNull(listed.find(({ url }) => url === lasting.url)!.expiresAt)
        const { expiresAt, registeredAt } = listed.find(({ url }) => url === passing.url)!
        assert.approximately(Date.parse(expiresAt!) - Date.parse(registeredAt), 24 * 3_600_000, 1_000)
        await killAndWait(second)
        return listed
      })
      const third = yield* startDurable(store, [])
      yield* Effect.promise(async () => {
        assert.deepStrictEqual(await backendsOf(third), kept)
        await deliverAs(third, newGuids(1))
        await Promise.all([lasting.receivedAtLeast(1), passing.receivedAtLeast(1)])
        await changeBackend(third, "DELETE", lasting.url)
        await killAndWait(third)
      })
      const last = yield* startDurable(store, [])
      assert.deepStrictEqual((yield* Effect.promise(() => backendsOf(last))).map(({ url }) => url), [passing.url])
    }))
})

describe("a GUID that GitHub delivers again", () => {
  it.live("goes to the backend that does not have it, and when all have it, to all", () =>
    Effect.gen(function*() {
      const well = yield* startBackend()
      const ill = yield* startIllBackend
      const program = yield* startDurable(yield* newStore, [well, ill])
      const guid = randomUUID()
      yield* Effect.promise(async () => {
        assert.deepStrictEqual(await deliverAs(program, [guid]), [202])
        await Promise.all([well.receivedAtLeast(1), ill.receivedAtLeast(1)])
        const isDelivered = () => isInState(program, "delivered", well, guid)
        await eventually(isDelivered, "the outcome in the store")

        const tries = ill.received.length
        assert.deepStrictEqual(await deliverAs(program, [guid]), [202])
        await ill.receivedAtLeast(tries + 1)
        ill.getWell()
        await eventually(() => isInState(program, "delivered", ill, guid), "the arrival at the other backend")
        assert.deepStrictEqual(guidsOf(well), [guid])
        assert.deepStrictEqual(ill.taken, [guid])

        assert.deepStrictEqual(await deliverAs(program, [guid]), [202])
        await well.receivedAtLeast(2)
        await eventually(() => ill.taken.length === 2)
      })
    }))
})

describe("the end of the grace", () => {
  const startHanging = startBackend(() => {})

  it.live("names what nobody will send again, for those who prefer a loss to a duplicate", () =>
    Effect.gen(function*() {
      const hanging = yield* startHanging
      const store = yield* newStore
      const program = yield* startDurable(store, [hanging], "--retry-unknown=false", "--shutdown-grace", "300ms")
      const guids = newGuids(2)
      yield* Effect.promise(async () => {
        assert.deepStrictEqual(await deliverAs(program, guids), [202, 202])
        await hanging.receivedAtLeast(2)
        program.process.kill("SIGTERM")
        assert.strictEqual(await program.exit, 1)
        const line = await program.logged(({ msg }) => msg === "shutdown grace exceeded")
        assert.strictEqual(line["attempts"], 2)
        assert.sameMembers(String(line["deliveries"]).split(" "), guids)
        assert.strictEqual(
          program.stderr(),
          "sprayproxy: the shutdown grace was over before every attempt had an outcome (2 cut off)\n"
        )
      })
      const second = yield* startDurable(store, [hanging])
      const dead = yield* Effect.promise(() => list(second.port, { state: "dead" }))
      assert.sameMembers(dead.map(({ guid }) => guid), guids)
    }))

  it.live("loses nothing of what will be sent again", () =>
    Effect.gen(function*() {
      const hanging = yield* startHanging
      const program = yield* startDurable(yield* newStore, [hanging], "--shutdown-grace", "300ms")
      yield* Effect.promise(async () => {
        await deliverAs(program, newGuids(2))
        await hanging.receivedAtLeast(2)
        program.process.kill("SIGTERM")
        assert.strictEqual(await program.exit, 0)
        const line = await program.logged(({ msg }) => msg === "shutdown grace exceeded")
        assert.deepInclude(line, { attempts: 0 })
        assert.isUndefined(line["deliveries"])
      })
    }))

  it.live("has what was not begun sent again, also for those who prefer a loss", () =>
    Effect.gen(function*() {
      const hanging = yield* startHanging
      const store = yield* newStore
      const args = ["--retry-unknown=false", "--backend-concurrency", "1", "--shutdown-grace", "300ms"]
      const program = yield* startDurable(store, [hanging], ...args)
      const [begun, waiting] = newGuids(2) as [string, string]
      yield* Effect.promise(async () => {
        await deliverAs(program, [begun, waiting])
        await hanging.receivedAtLeast(1)
        program.process.kill("SIGTERM")
        assert.strictEqual(await program.exit, 1)
        const line = await program.logged(({ msg }) => msg === "shutdown grace exceeded")
        assert.deepInclude(line, { attempts: 1, deliveries: begun })
      })
      const second = yield* startDurable(store, [hanging], ...args)
      yield* Effect.promise(() => eventually(() => guidsOf(hanging).includes(waiting), "the one that had waited"))
      const dead = yield* Effect.promise(() => list(second.port, { state: "dead" }))
      assert.deepStrictEqual(dead.map(({ guid }) => guid), [begun])
    }))
})
