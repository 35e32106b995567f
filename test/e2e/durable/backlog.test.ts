/** The built program with a store on SQLite, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { DatabaseSync } from "node:sqlite"
import { list, redeliver } from "../../crash/Operator.ts"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
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

const guidsInState = async (program: Program, state: string, { url }: TestBackend) =>
  (await list(program.port, { state, backend: url })).map(({ guid }) => guid).toSorted()

describe("a backend that refuses some deliveries", () => {
  it.live("goes on getting the others at once", () =>
    Effect.gen(function*() {
      const taken = new Map<string, number>()
      const backend = yield* startBackend(({ headers, url }, response) => {
        if (url.length > 8_000) return void response.writeHead(414).end()
        taken.set(String(headers["x-github-delivery"]), performance.now())
        response.writeHead(202).end()
      })
      const program = yield* startDurable(yield* newStore, [backend])
      const path = `/proxy?replayed=${"x".repeat(9_000)}`
      yield* Effect.promise(async () => {
        for (let n = 0; n < 20; n += 1) assert.strictEqual((await deliver(program.port, "{}", { path })).status, 202)
        await backend.receivedAtLeast(20)
        for (const guid of newGuids(20)) {
          await deliver(program.port, "{}", { path })
          await deliverAs(program, [guid])
          // None is held: each is on its way before the next comes.
          await eventually(() => taken.has(guid), "the arrival of a good one")
        }
        await eventually(async () =>
          (await list(program.port, { state: "pending", backend: backend.url })).length === 40
        )
      })
    }))
})

describe("a backend with a backlog", () => {
  it.live("gets it when it is well again, and once more what the operator asks for", () =>
    Effect.gen(function*() {
      const well = yield* startBackend()
      const ill = yield* startIllBackend
      const program = yield* startDurable(yield* newStore, [well, ill])
      const guids = newGuids(12)
      yield* Effect.promise(async () => {
        assert.deepStrictEqual(await deliverAs(program, guids), guids.map(() => 202))
        await well.receivedAtLeast(guids.length)
        await eventually(async () => (await guidsInState(program, "delivered", well)).length === guids.length)
        assert.deepStrictEqual(await guidsInState(program, "pending", ill), guids.toSorted())
        assert.deepStrictEqual(await list(program.port, { state: "dead" }), [])

        ill.getWell()
        await eventually(async () => (await guidsInState(program, "delivered", ill)).length === guids.length)
        assert.deepStrictEqual(ill.taken.toSorted(), guids.toSorted())
        assert.deepStrictEqual(guidsOf(well), guids)

        const again = guids[0]!
        assert.strictEqual(await redeliver(program.port, `/deliveries/${again}/redeliver`, { backend: well.url }), 1)
        await eventually(() => guidsOf(well).filter((guid) => guid === again).length === 2)
        // A row that is under way is not sent twice.
        await eventually(() => isInState(program, "delivered", well, again), "the outcome in the store")
        assert.strictEqual(await redeliver(program.port, `/deliveries/${again}/redeliver`), 2)
        await eventually(() => guidsOf(well).filter((guid) => guid === again).length === 3)
        await eventually(() => ill.taken.filter((guid) => guid === again).length === 2)
      })
    }), 120_000)

  it.live("has what can't be read shown with its reason, and gets the rest", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend((_, response) => void response.writeHead(503).end())
      const store = yield* newStore
      const args = ["--forwarding-retries", "0"]
      const first = yield* startDurable(store, [backend], ...args)
      const [spoilt, cut, whole] = newGuids(3) as [string, string, string]
      yield* Effect.promise(async () => {
        await deliverAs(first, [spoilt, cut, whole])
        await backend.receivedAtLeast(3)
        await killAndWait(first)
      })
      const database = new DatabaseSync(store.slice("sqlite:".length))
      const change = (column: string, guid: string) =>
        database.prepare(
          `UPDATE payloads SET ${column} WHERE delivery_id = (SELECT id FROM deliveries WHERE guid = ?)`
        ).run(guid)
      change("headers = '[\"X-Hub-Signature-256: sha'", spoilt)
      change("body = substr(body, 2)", cut)
      database.close()
      const before = backend.received.length
      const second = yield* startDurable(store, [backend], ...args)
      yield* Effect.promise(async () => {
        await eventually(() => guidsOf(backend).slice(before).includes(whole), "the one that is whole")
        for (const [guid, reason] of [[spoilt, "its headers can't be read"], [cut, "its body is not whole"]] as const) {
          const line = await second.logged(({ error, msg }) =>
            msg === "a stored delivery could not be sent" && String(error).endsWith(reason)
          )
          assert.deepInclude(line, { backend: backend.host, outcome: "unreachable" })
          // An attempt that is logged is on its way to the store.
          const shown = () => send(second.port, { method: "GET", path: `/deliveries/${guid}` })
          await eventually(async () => (await shown()).text.includes(reason), `that ${reason} is shown`)
          assert.isFalse(guidsOf(backend).slice(before).includes(guid))
        }
        assert.notInclude(JSON.stringify(second.logs), "X-Hub-Signature-256: sha")
      })
    }))

  it.live("that is given up is shown as dead, and sent again on demand", () =>
    Effect.gen(function*() {
      const ill = yield* startIllBackend
      const program = yield* startDurable(yield* newStore, [ill], "--max-delivery-age", "1s")
      // One: more failures would open the breaker, and its pauses are longer than this age.
      const guids = newGuids(1)
      yield* Effect.promise(async () => {
        await deliverAs(program, guids)
        await eventually(async () => (await guidsInState(program, "dead", ill)).length === guids.length, "their death")
        ill.getWell()
        const sendDeadAgain = () =>
          redeliver(program.port, "/deliveries/redeliver", { state: "dead", backend: ill.url })
        assert.strictEqual(await sendDeadAgain(), guids.length)
        await eventually(async () => {
          // On a slow machine a second may be over before it is sent.
          await sendDeadAgain()
          return ill.taken.length === guids.length
        }, "the arrival of what was dead")
        assert.deepStrictEqual(ill.taken.toSorted(), guids.toSorted())
      })
    }), 120_000)

  it.live("leaves it behind as cancelled when it is unregistered", () =>
    Effect.gen(function*() {
      const well = yield* startBackend()
      const ill = yield* startIllBackend
      const program = yield* startDurable(yield* newStore, [well])
      const guids = newGuids(4)
      yield* Effect.promise(async () => {
        await changeBackend(program, "POST", ill.url)
        await deliverAs(program, guids)
        await ill.receivedAtLeast(guids.length)
        assert.deepStrictEqual(await guidsInState(program, "pending", ill), guids.toSorted())
        await changeBackend(program, "DELETE", ill.url)
        assert.deepStrictEqual(await guidsInState(program, "cancelled", ill), guids.toSorted())
        assert.deepStrictEqual(await guidsInState(program, "pending", ill), [])
        ill.getWell()
        await deliverAs(program, newGuids(1))
        await well.receivedAtLeast(guids.length + 1)
        assert.deepStrictEqual(ill.taken, [])
      })
    }))
})
