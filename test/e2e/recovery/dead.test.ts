/** The built program while deliveries don't reach it, and afterwards. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually } from "../../support/eventually.ts"
import { postgresUnavailable } from "../../support/postgres/Postgres.ts"
import { type Death, deaths } from "./Deaths.ts"
import { arrivalsOf, arrived, newDeliveries } from "./Deliveries.ts"
import { postgres, sqlite, type TimedStore } from "./Stores.ts"
import { startWorld, type World } from "./World.ts"

/** Thousands take minutes. CONTRIBUTING.md names the variable. */
const countVariable = "SPRAYPROXY_TEST_DELIVERIES"
const count = Number(process.env[countVariable] ?? 24)

const minute = 60_000

/** How long it lasts while the servers run. They ask in vain meanwhile, but not often. */
const lasting = 10 * minute
const mostInVain = 5 + 3

/** The reconciler dies when it has asked for so many. */
const killReconcilerAfter = (world: World, requests: number) => {
  const { app } = world
  const last = app.askedFor.length + requests
  let killed: Promise<number> | undefined
  app.dropsRedelivery = () => {
    if (app.askedFor.length === last) {
      const { port } = app.requests.at(-1)!
      const reconciler = world.replicas.find(({ apiPort }) => apiPort === port)!
      killed = world.kill(reconciler).then(() => reconciler.port)
    }
    return false
  }
  return () => killed
}

const recoversFrom = Effect.fnUntraced(function*(death: Death, store: TimedStore) {
  const begin = performance.now()
  const world = yield* startWorld(store)
  const { app, backends, route, time } = world
  const before = newDeliveries(5)
  const deliveries = newDeliveries(count)
  const all = [...before, ...deliveries]
  yield* Effect.promise(async () => {
    await world.startAll()
    await world.deliver(before)
    await eventually(() => arrived(before, backends) === before.length, "an arrival before")
    await time.pass(minute)
    assert.deepStrictEqual(app.askedFor, [])

    await death.begin(world, deliveries)
    await time.pass(death.isAlive ? lasting : minute)
    const inVain = app.askedFor.length
    assert.isAtMost(inVain, death.isAlive ? mostInVain : 0)
    const heldMeanwhile = death.isAlive ? await world.held() : undefined
    await death.end(world)
    const held = heldMeanwhile ?? await world.held()
    const missing = deliveries.filter(({ guid }) => !held.has(guid)).map(({ guid }) => guid)
    const killed = store.replicas > 1 ? killReconcilerAfter(world, Math.ceil(missing.length / 2)) : undefined
    const took = await time.until(() => arrived(all, backends) === all.length, 60 * minute, "every arrival")
    await time.pass(20 * minute)
    await app.quiet()
    const deadPort = await killed?.()
    const { altered, duplicates, lost } = arrivalsOf(all, backends)
    report({
      death: death.name,
      store: new URL(store.url).protocol,
      deliveries: count,
      missing: missing.length,
      requests: Object.fromEntries(kinds.map((kind) => [kind, app.count(kind)])),
      inVain,
      lost: lost.length,
      altered: altered.length,
      duplicates: new Set(duplicates).size,
      minutesOfTheWorld: Math.round(took / minute * 10) / 10,
      seconds: Math.round((performance.now() - begin) / 1_000)
    })

    assert.strictEqual(deadPort !== undefined, store.replicas > 1)
    assert.deepStrictEqual(lost, [])
    assert.deepStrictEqual(altered, [])
    // A process that was killed could not write down who has what it had begun.
    const isExcused = (guid: string) =>
      route.lastPort(guid) === deadPort || (death.name === "killed under load" && held.has(guid))
    assert.deepStrictEqual(duplicates.filter((guid) => !isExcused(guid)), [])

    const asked = app.askedFor
    assert.deepStrictEqual(Array.from(new Set(asked)).toSorted(), missing.toSorted())
    assert.isAtMost(asked.length, missing.length + inVain)
    assert.isAtMost(app.count("detail"), world.started())
    assert.strictEqual(app.requests.length, app.count("page") + app.count("detail") + asked.length)
    assert.isEmpty(app.requests.filter(({ status }) => status >= 400))
  })
})

const kinds = ["page", "detail", "redelivery"] as const

/** The figures of a run at length. */
const report = (figures: Readonly<Record<string, unknown>>): void => {
  if (process.env[countVariable] !== undefined) console.log(JSON.stringify(figures))
}

describe("a proxy that is dead while deliveries come has them afterwards, each once", () => {
  for (const death of deaths) {
    it.live(`${death.name}, on SQLite`, () => Effect.flatMap(sqlite, (store) => recoversFrom(death, store)), 1_200_000)
  }

  describe.skipIf(postgresUnavailable() !== undefined)("on PostgreSQL", () => {
    for (const death of deaths) {
      it.live(
        `${death.name}, two replicas on PostgreSQL, and the reconciler is killed in between`,
        () => Effect.flatMap(postgres, (store) => recoversFrom(death, store)),
        1_200_000
      )
    }
  })
})
