/** Dynamic backends that replicas share through PostgreSQL, from outside. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { listen, startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable, sharedPostgres, startPostgres } from "../../support/postgres/Postgres.ts"

const isUnavailable = postgresUnavailable() !== undefined

const backendsOf = async ({ port }: Program) => (await send(port, { method: "GET", path: "/backends" })).text

/** A way to a PostgreSQL that can be cut: connections end, and new ones too. */
const cuttable = Effect.fnUntraced(function*(url: string) {
  const to = Number(new URL(url).port)
  const sockets = new Set<Net.Socket>()
  let isCut = false
  const server = Net.createServer((socket) => {
    if (isCut) {
      socket.destroy()
      return
    }
    const onward = Net.connect(to, "127.0.0.1")
    for (const [one, other] of [[socket, onward], [onward, socket]] as const) {
      sockets.add(one)
      one.on("error", () => other.destroy()).on("close", () => other.destroy()).pipe(other)
    }
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
  const through = new URL(url)
  through.port = String(yield* listen(server))
  return {
    url: through.href,
    cut: (cut: boolean) => {
      isCut = cut
      if (cut) { for (const socket of sockets) socket.destroy() }
    }
  }
})

describe.skipIf(isUnavailable)("a replica that is cut off from PostgreSQL", () => {
  it.live("does not undo what the other has decided since", () =>
    Effect.gen(function*() {
      const postgres = yield* sharedPostgres
      const store = yield* postgres.createDatabase
      const way = yield* cuttable(store)
      const backend = yield* startBackend()
      const args = ["--enable-dynamic-backends", "--store"]
      const [one, other] = yield* Effect.all([startProgram([...args, way.url]), startProgram([...args, store])])
      const change = async (program: Program, method: string) =>
        (await send(program.port, { method, path: "/backends", body: JSON.stringify({ url: backend.url }) })).status
      const knows = async (program: Program) => (await backendsOf(program)).includes(backend.url)
      yield* Effect.promise(async () => {
        assert.strictEqual(await change(other, "POST"), 200)
        await eventually(() => knows(one))
        way.cut(true)
        assert.strictEqual(await change(one, "DELETE"), 200)
        assert.isFalse(await knows(one))
        assert.strictEqual(await change(other, "DELETE"), 200)
        assert.strictEqual(await change(other, "POST"), 200)
        way.cut(false)
        await eventually(() => knows(one))
        // It has looked at the store: its own change was brought there before.
        assert.isTrue(await knows(other))
        assert.strictEqual(await change(one, "POST"), 302)
        assert.strictEqual((await deliver(other.port, "{}")).status, 202)
        await backend.receivedAtLeast(1)
      })
    }), 60_000)
})

describe.skipIf(isUnavailable)("a process that starts while PostgreSQL is away", () => {
  it.live("is not ready and takes no delivery until it knows the dynamic backends", () =>
    Effect.gen(function*() {
      const postgres = yield* startPostgres
      const store = yield* postgres.createDatabase
      const [dynamic, fixed] = [yield* startBackend(), yield* startBackend()]
      const args = ["--enable-dynamic-backends", "--store", store, "--backend", fixed.url]
      yield* Effect.scoped(Effect.flatMap(startProgram(args), (before) =>
        Effect.promise(() =>
          send(before.port, { path: "/backends", body: JSON.stringify({ url: dynamic.url }) })
        )))
      yield* postgres.stop
      const program = yield* startProgram(args)
      const ready = async () =>
        (await send(program.port, { method: "GET", path: "/readyz" })).text
      yield* Effect.promise(async () => {
        assert.strictEqual(await ready(), "backends unknown")
        const { headers, status, text } = await deliver(program.port, "{}")
        assert.deepStrictEqual([status, text, headers["retry-after"]], [503, "backends unknown", "10"])
      })
      yield* postgres.start
      yield* Effect.promise(async () => {
        await eventually(async () => await ready() === "ready")
        // Written or not yet: it goes to both.
        assert.include([200, 202], (await deliver(program.port, "{}")).status)
        await Promise.all([dynamic, fixed].map((backend) => backend.receivedAtLeast(1)))
        assert.deepStrictEqual([dynamic.received.length, fixed.received.length], [1, 1])
      })
    }), 60_000)
})
