/** The built program with recovery, where GitHub's log and the ledger disagree, and where others redeliver too. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually } from "../../support/eventually.ts"
import { arrivalsOf, arrived, newDeliveries } from "./Deliveries.ts"
import { sqlite } from "./Stores.ts"
import { startWorld, type World } from "./World.ts"

const minute = 60_000

/** What failed before the first start is not recovered, so some time passes first. */
const startOnSqlite = Effect.gen(function*() {
  const world = yield* startWorld(yield* sqlite)
  yield* Effect.promise(async () => {
    await world.startAll()
    await world.time.pass(minute)
  })
  return world
})

/** GitHub's attempts fail, before they reach the proxy. */
const failAll = async ({ deliver, route }: World, deliveries: ReturnType<typeof newDeliveries>) => {
  route.isOpen = false
  await deliver(deliveries)
  route.isOpen = true
}

describe("recovery beside GitHub's own view", () => {
  it.live("does not ask for a delivery that GitHub counts as timed out although it was answered", () =>
    Effect.gen(function*() {
      const world = yield* startOnSqlite
      const { app, backends, time } = world
      yield* Effect.promise(async () => {
        const deliveries = newDeliveries(4)
        app.timesOut = () => true
        await world.deliver(deliveries)
        assert.deepStrictEqual(app.log.all.map(({ statusCode }) => statusCode), [0, 0, 0, 0])
        await time.pass(40 * minute)
        assert.isAtLeast(app.count("page"), 2)
        assert.deepStrictEqual(app.askedFor, [])
        assert.deepStrictEqual(arrivalsOf(deliveries, backends), { lost: [], duplicates: [], altered: [] })
      })
    }))

  it.live("sends to all what a person asks for, whether it was recovered or not", () =>
    Effect.gen(function*() {
      const world = yield* startOnSqlite
      const { app, backends, time } = world
      yield* Effect.promise(async () => {
        const [held, recovered] = newDeliveries(2)
        await world.deliver([held!])
        await failAll(world, [recovered!])
        await time.until(() => arrived([held!, recovered!], backends) === 2, 30 * minute, "both arrivals")
        await time.pass(30 * minute)
        assert.deepStrictEqual(app.askedFor, [recovered!.guid])
        assert.deepStrictEqual(backends.map(({ received }) => received.length), [2, 2, 2])
        await app.redeliver(held!.guid)
        await app.redeliver(recovered!.guid)
        await Promise.all(backends.map((backend) => backend.receivedAtLeast(4)))
        await time.pass(30 * minute)
        assert.deepStrictEqual(backends.map(({ received }) => received.length), [4, 4, 4])
        assert.deepStrictEqual(app.askedFor, [recovered!.guid])
      })
    }))

  it.live("sends once what a person redelivers before it is asked for, and what comes twice at the same time", () =>
    Effect.gen(function*() {
      const world = yield* startOnSqlite
      const { app, backends, time } = world
      yield* Effect.promise(async () => {
        const deliveries = newDeliveries(6)
        const [early, ...others] = deliveries
        await failAll(world, deliveries)
        await app.redeliver(early!.guid)
        const again: Array<Promise<unknown>> = []
        app.dropsRedelivery = ({ guid }) => {
          again.push(app.redeliver(guid))
          return false
        }
        await time.until(() => arrived(deliveries, backends) === 6, 30 * minute, "every arrival")
        await Promise.all(again)
        await time.pass(30 * minute)
        assert.sameMembers([...app.askedFor], others.map(({ guid }) => guid))
        assert.deepStrictEqual(arrivalsOf(deliveries, backends), { lost: [], duplicates: [], altered: [] })
      })
    }))

  it.live("asks again for a delivery of which nothing came", () =>
    Effect.gen(function*() {
      const world = yield* startOnSqlite
      const { app, backends, time } = world
      yield* Effect.promise(async () => {
        const deliveries = newDeliveries(2)
        const [dropped] = deliveries
        await failAll(world, deliveries)
        app.dropsRedelivery = ({ guid }) => guid === dropped!.guid && app.askedFor.length < 3
        await time.until(() => arrived(deliveries, backends) === 2, 60 * minute, "both arrivals")
        assert.strictEqual(app.askedFor.filter((guid) => guid === dropped!.guid).length, app.askedFor.length - 1)
        await eventually(() => backends.every(({ received }) => received.length === 2))
      })
    }))

  it.live("finds what the log shows late", () =>
    Effect.gen(function*() {
      const world = yield* startOnSqlite
      const { app, backends, time } = world
      yield* Effect.promise(async () => {
        const deliveries = newDeliveries(3)
        app.listedAfter = 5 * minute
        await failAll(world, deliveries)
        app.listedAfter = 0
        const newer = newDeliveries(1)
        await failAll(world, newer)
        const all = [...deliveries, ...newer]
        await time.until(() => arrived(all, backends) === 4, 40 * minute, "every arrival")
        await time.pass(30 * minute)
        assert.lengthOf(app.askedFor, 4)
        assert.deepStrictEqual(arrivalsOf(all, backends), { lost: [], duplicates: [], altered: [] })
      })
    }))
})
