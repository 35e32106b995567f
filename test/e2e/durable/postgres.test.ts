/** The built program with a store on PostgreSQL, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Agent } from "node:http"
import { setTimeout as pause } from "node:timers/promises"
import { startCrashBackend } from "../../crash/Backends.ts"
import { noteDelivered, nothingPending, scrape } from "../../crash/Operator.ts"
import { Random } from "../../crash/Random.ts"
import { startServer } from "../../crash/Server.ts"
import { startTraffic, Targets } from "../../crash/Traffic.ts"
import { Witness } from "../../crash/Witness.ts"
import { startBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { pgBouncerUnavailable, startPgBouncer } from "../../support/postgres/PgBouncer.ts"
import { postgresUnavailable, query, sharedPostgres, startPostgres } from "../../support/postgres/Postgres.ts"

/** Milliseconds: a lease outlives the forwarding timeout by 15 s, and then the backlog has to drain. */
const patience = 90_000

const newTraffic = Effect.fnUntraced(function*(witness: Witness, sending: (guid: string, port: number) => void) {
  const random = new Random(7)
  const backends = yield* Effect.all([
    startCrashBackend(witness, random, { name: "steady", delay: 20 }),
    startCrashBackend(witness, random, { name: "slow", delay: 300 })
  ])
  const targets = new Targets()
  const traffic = yield* startTraffic({ targets, witness, random, connections: 8, pause: 10, sending })
  const settings = ["--forwarding-timeout", "3s", "--enable-dynamic-backends"]
  const args = [...backends.flatMap(({ url }) => ["--backend", url]), ...settings]
  return { backends, targets, traffic, args }
})

const isUnavailable = postgresUnavailable() !== undefined

const sessionSettings =
  "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,enable_seqscan,enable_hashjoin,enable_mergejoin,jit"

const backendsOf = async ({ port }: Program) => (await send(port, { method: "GET", path: "/backends" })).text

describe.skipIf(isUnavailable)("two replicas on one PostgreSQL", () => {
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
        assert.deepStrictEqual(program.logs.filter(({ level }) => level === "warn" || level === "error"), [])
      }),
    120_000
  )
})

describe.skipIf(isUnavailable)("a PostgreSQL that goes away under load", () => {
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

describe.skipIf(isUnavailable)("a PostgreSQL that can be read and not written to", () => {
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
        const replies = await Promise.all(events.map((event) => deliver(program.port, "{}", { event })))
        assert.deepStrictEqual(
          replies.map(({ status }) => status),
          events.map((event) => event === "poison" ? 200 : 202)
        )
        await backend.receivedAtLeast(201)
        const seen = await scrape(metricsPort)
        assert.strictEqual(seen.value("sprayproxy_store_fallbacks_total{reason=\"unstorable\"}"), 5)
        assert.strictEqual(seen.value("sprayproxy_store_up"), 1)
        await nothingPending(program.port)
        assert.strictEqual(backend.received.length, 201)
      })
    }), 60_000)
})
