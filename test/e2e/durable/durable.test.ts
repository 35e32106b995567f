/** The built program with a store on SQLite, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as pause } from "node:timers/promises"
import { startCrashBackend } from "../../crash/Backends.ts"
import { list, redeliver, scrape } from "../../crash/Operator.ts"
import { Random } from "../../crash/Random.ts"
import { startServer } from "../../crash/Server.ts"
import { startTraffic, Targets } from "../../crash/Traffic.ts"
import { Witness } from "../../crash/Witness.ts"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver, send } from "../../support/GitHub.ts"
import { type Program, startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-durable-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
)

const newStore = Effect.map(temporaryDirectory, (directory) => `sqlite:${join(directory, "deliveries.db")}`)

const startDurable = (store: string, backends: ReadonlyArray<TestBackend>, ...args: ReadonlyArray<string>) =>
  startProgram([
    ...backends.flatMap(({ url }) => ["--backend", url]),
    "--store",
    store,
    "--enable-dynamic-backends",
    ...args
  ])

/** Answers 500 until it is told that it is well. */
const startIllBackend = Effect.gen(function*() {
  const health = { isWell: false }
  const taken: Array<string> = []
  const backend = yield* startBackend(({ headers }, response) => {
    if (health.isWell) taken.push(String(headers["x-github-delivery"]))
    response.writeHead(health.isWell ? 202 : 500).end()
  })
  return { ...backend, taken, getWell: () => health.isWell = true }
})

const guidsOf = ({ received }: TestBackend) => received.map(({ headers }) => String(headers["x-github-delivery"]))

const newGuids = (count: number) => Array.from({ length: count }, () => randomUUID())

/** Delivers under these GUIDs, one after the other; the answers' statuses. */
const deliverAs = async (program: Program, guids: ReadonlyArray<string>, body = "{}") => {
  const statuses: Array<number> = []
  for (const guid of guids) {
    const { status } = await deliver(program.port, body, { headers: { "x-github-delivery": guid } })
    statuses.push(status)
  }
  return statuses
}

const metricsOf = async (program: Program) =>
  scrape(Number((await program.logged(({ msg }) => msg === "metrics listening"))["port"]))

const fallbacks = async (program: Program) => {
  const seen = await metricsOf(program)
  return seen.keysWith("sprayproxy_store_fallbacks_total").reduce((sum, key) => sum + seen.value(key), 0)
}

const changeBackend = async (program: Program, method: "POST" | "DELETE", url: string, ttl?: string) => {
  const { status } = await send(program.port, { method, path: "/backends", body: JSON.stringify({ url, ttl }) })
  assert.strictEqual(status, 200)
}

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

const killAndWait = async (program: Program) => {
  program.process.kill("SIGKILL")
  await program.exit
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

const isInState = async (program: Program, state: string, { url }: TestBackend, guid: string) =>
  (await list(program.port, { state, backend: url })).some((delivery) => delivery.guid === guid)

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
        // What is under way is not sent twice.
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
          // What is logged is on its way to the store.
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

/** GitHub's larger payloads: each takes some pages. */
const largeBody = JSON.stringify({ padding: "x".repeat(30_000) })

/** Delivers until an answer is as wanted; all GUIDs that were used. */
const deliverUntil = async (program: Program, wanted: 200 | 202) => {
  const guids: Array<string> = []
  const deadline = performance.now() + 90_000
  for (;;) {
    const guid = randomUUID()
    guids.push(guid)
    const [status] = await deliverAs(program, [guid], largeBody)
    if (status === wanted) return guids
    if (wanted === 202) await pause(50)
    assert.include([200, 202], status)
    assert.isBelow(performance.now(), deadline, `no answer was ${wanted}`)
  }
}

const arrivedAt = (backend: TestBackend, guids: ReadonlyArray<string>) =>
  eventually(() => {
    const arrived = new Set(guidsOf(backend))
    return guids.every((guid) => arrived.has(guid))
  }, "the arrival of all")

/** A file system of 8 MiB, where this may be done. */
const smallDisk = Effect.map(
  Effect.acquireRelease(
    Effect.map(temporaryDirectory, (directory) => {
      const path = join(directory, "disk")
      mkdirSync(path)
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,mode=0700", "sprayproxy-test", path], { stdio: "ignore" })
      return path
    }),
    (path) => Effect.sync(() => execFileSync("umount", ["-l", path]))
  ),
  (path) => ({ path, filler: join(path, "filler") })
)

const canMount = Effect.runSync(Effect.scoped(Effect.match(Effect.sandbox(smallDisk), {
  onFailure: () => false,
  onSuccess: () => true
})))
if (!canMount) console.warn("SKIPPED: nothing can be mounted here, the full disk is not tested")

describe("a store that is full", () => {
  it.live.skipIf(!canMount)(
    "because its disk is: deliveries go without it, and to it again when there is space",
    () =>
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const { filler, path } = yield* smallDisk
        writeFileSync(filler, Buffer.alloc(3 * 1024 * 1024))
        const program = yield* startDurable(`sqlite:${join(path, "deliveries.db")}`, [backend])
        yield* Effect.promise(async () => {
          const filling = await deliverUntil(program, 200)
          assert.isAbove(await fallbacks(program), 0)
          rmSync(filler)
          const recovering = await deliverUntil(program, 202)
          await arrivedAt(backend, [...filling, ...recovering])
          assert.strictEqual((await metricsOf(program)).value("sprayproxy_store_up"), 1)
        })
      }),
    120_000
  )

  it.live("because of its limit: the same", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const args = ["--store-limit", "2MiB", "--retain-delivered", "1s"]
      const program = yield* startDurable(yield* newStore, [backend], ...args)
      yield* Effect.promise(async () => {
        const filling = await deliverUntil(program, 200)
        const full = "sprayproxy_store_fallbacks_total{reason=\"full\"}"
        assert.isAbove((await metricsOf(program)).value(full), 0)
        assert.strictEqual((await metricsOf(program)).value("sprayproxy_store_up"), 1)
        const recovering = await deliverUntil(program, 202)
        await arrivedAt(backend, [...filling, ...recovering])
        assert.strictEqual(new Set(guidsOf(backend)).size, backend.received.length)
      })
    }), 120_000)

  it.live("and its answer is late: it does not say that it is kept", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend(() => {})
      const args = ["--store-limit", "1MiB", "--reply-deadline", "500ms"]
      const program = yield* startDurable(yield* newStore, [backend], ...args)
      yield* Effect.promise(async () => {
        const reply = await deliver(program.port, "x".repeat(2 ** 20))
        assert.deepStrictEqual([reply.status, reply.text], [202, "forwarding"])
        const seen = await metricsOf(program)
        assert.strictEqual(seen.value("sprayproxy_store_fallbacks_total{reason=\"full\"}"), 1)
        assert.strictEqual(seen.value("sprayproxy_deliveries_total{answer=\"forwarding\",reason=\"none\"}"), 1)
      })
    }), 60_000)
})
