import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import {
  DeliveryStore,
  type NewDelivery,
  type Recorded,
  type Settlement,
  StoreUnavailable
} from "../src/DeliveryStore.ts"
import { Log, LogEntries } from "../src/Logging.ts"
import { Settings } from "../src/Settings.ts"
import { StoreMetrics } from "../src/StoreMetrics.ts"
import { StoreWriter } from "../src/StoreWriter.ts"
import { Timers } from "../src/Timers.ts"

type Batch = { readonly deliveries: ReadonlyArray<NewDelivery>; readonly settlements: ReadonlyArray<Settlement> }

const recordedOf = ({ id, targets }: NewDelivery): Recorded => ({
  id,
  isRedelivery: false,
  owned: targets.map(({ key }) => key)
})

const setUp = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]> = {}) {
  const batches: Array<Batch> = []
  /** How the store answers a write. */
  const script = {
    write: (): Effect.Effect<void, StoreUnavailable> => Effect.void,
    used: 0,
    usage: (): Effect.Effect<void, StoreUnavailable> => Effect.void,
    released: 0
  }
  const store = {
    write: (batch: Batch) =>
      Effect.suspend(() => {
        batches.push(batch)
        return Effect.as(script.write(), batch.deliveries.map(recordedOf))
      }),
    due: () => Effect.suspend(() => Effect.as(script.write(), [])),
    usage: Effect.suspend(() => Effect.as(Effect.andThen(script.usage(), script.write()), script.used)),
    release: Effect.sync(() => void (script.released += 1))
  } as unknown as DeliveryStore["Service"]
  const scope = yield* Scope.make()
  const services = yield* Layer.buildWithScope(
    StoreWriter.layer.pipe(
      Layer.provideMerge(StoreMetrics.layer),
      Layer.provideMerge(
        Layer.mergeAll(
          Layer.succeed(DeliveryStore, store),
          Timers.layerClock,
          Log.layerTest,
          Settings.layerFrom(settings)
        )
      )
    ),
    scope
  )
  const writer = Context.get(services, StoreWriter)
  const said: Array<string> = []
  const write = (id: string, size = 1) =>
    writer.write({
      size,
      delivery: () => ({ id, targets: [{ key: "http://a", url: "http://a", held: false }] }) as unknown as NewDelivery,
      written: (recorded) => said.push(`${recorded.id} written`),
      refused: (reason) => said.push(`${id} ${reason}`),
      writtenLate: (recorded) => said.push(`${id} ${recorded === undefined ? "unknown" : "written late"}`)
    })
  const settle = (id: string) => writer.settle({ id, key: "http://a", attempt: undefined, become: "delivered" })
  yield* TestClock.adjust(0)
  return {
    batches,
    close: Scope.close(scope, yield* Effect.exit(Effect.void)),
    said,
    script,
    settle,
    services,
    write,
    writer
  }
})

const sizes = (batches: ReadonlyArray<Batch>) =>
  batches.map(({ deliveries, settlements }) => [deliveries.length, settlements.length])

const down = Effect.fail(new StoreUnavailable({ reason: "connection lost" }))

describe("the store's writer", () => {
  it.effect("writes what comes together in one transaction", () =>
    Effect.gen(function*() {
      const { batches, said, settle, write } = yield* setUp()
      for (const id of ["1", "2", "3"]) write(id)
      settle("0")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(sizes(batches), [[3, 1]])
      assert.deepStrictEqual(said, ["1 written", "2 written", "3 written"])
    }))

  it.effect("gathers in the next transaction what comes during one", () =>
    Effect.gen(function*() {
      const { batches, said, script, write } = yield* setUp()
      const disk = yield* Deferred.make<void>()
      script.write = () => Deferred.await(disk)
      write("1")
      yield* TestClock.adjust(5)
      write("2")
      write("3")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said, [])
      yield* Deferred.succeed(disk, undefined)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(sizes(batches), [[1, 0], [2, 0]])
      assert.deepStrictEqual(said, ["1 written", "2 written", "3 written"])
    }))

  it.effect("bounds the bodies of one transaction, but for a single delivery", () =>
    Effect.gen(function*() {
      const { batches, write } = yield* setUp()
      const mebibyte = 1024 * 1024
      for (const [id, size] of [["1", 25], ["2", 5], ["3", 3], ["4", 1]] as const) write(id, size * mebibyte)
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(sizes(batches), [[1, 0], [2, 0], [1, 0]])
    }))

  it.effect("refuses a delivery whose write fails, and says that nobody knows what became of it", () =>
    Effect.gen(function*() {
      const { said, script, write, writer } = yield* setUp()
      script.write = () => down
      write("1")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said, ["1 unavailable", "1 unknown"])
      assert.isFalse(writer.isUp())
      write("2")
      assert.deepStrictEqual(said.slice(2), ["2 unavailable"])
    }))

  it.effect("uses a store again that comes back, within a second or two", () =>
    Effect.gen(function*() {
      const { said, script, services, write, writer } = yield* setUp()
      script.write = () => down
      write("1")
      yield* TestClock.adjust(5)
      yield* TestClock.adjust("10 seconds")
      script.write = () => Effect.void
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(writer.isUp())
      write("2")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said.slice(2), ["2 written"])
      const lines = Context.get(services, LogEntries).entries.map(({ message }) => message)
      assert.deepStrictEqual(lines, [
        "the store is down: deliveries are forwarded without it",
        "the store is used again"
      ])
    }))

  it.effect("keeps outcomes until the store takes them", () =>
    Effect.gen(function*() {
      const { batches, script, settle } = yield* setUp()
      script.write = () => down
      for (const id of ["1", "2", "3"]) settle(id)
      yield* TestClock.adjust("30 seconds")
      script.write = () => Effect.void
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(batches.at(-1)?.settlements.map(({ id }) => id), ["1", "2", "3"])
    }))

  it.effect("is not kept down by an outcome that can't be written: it drops that one alone", () =>
    Effect.gen(function*() {
      const { batches, script, services, settle, writer } = yield* setUp()
      // Of a write, not of the probe.
      script.write = () =>
        batches.at(-1)?.settlements.some(({ id }) => id === "bad") === true && batches.length > seen
          ? refuse()
          : Effect.void
      let seen = 0
      const refuse = () => {
        seen = batches.length
        return down
      }
      for (const id of ["1", "2", "bad", "3", "4"]) settle(id)
      for (let second = 0; second < 60; second += 1) yield* TestClock.adjust("1 second")
      assert.isTrue(writer.isUp())
      const written = batches.filter(({ settlements }) => settlements.every(({ id }) => id !== "bad"))
      assert.sameMembers(written.flatMap(({ settlements }) => settlements.map(({ id }) => id)), ["1", "2", "3", "4"])
      const lines = Context.get(services, LogEntries).entries.map(({ message }) => message)
      assert.include(lines, "an outcome can't be written, and is dropped")
    }))

  it.effect("lets no delivery wait for longer than 2 s, and tells it when it was written after all", () =>
    Effect.gen(function*() {
      const { said, script, write } = yield* setUp()
      const disk = yield* Deferred.make<void>()
      script.write = () => Deferred.await(disk)
      write("1")
      yield* TestClock.adjust(100)
      write("2")
      yield* TestClock.adjust(1_950)
      // Whoever comes while the store hangs does not wait at all; the second was never begun.
      write("3")
      assert.deepStrictEqual(said, ["1 timeout", "2 unavailable", "3 unavailable"])
      yield* Deferred.succeed(disk, undefined)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(said.slice(3), ["1 written late"])
      write("4")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said.slice(4), ["4 written"])
    }))

  it.effect("gives a write up that hangs, and goes on", () =>
    Effect.gen(function*() {
      const { said, script, write } = yield* setUp()
      script.write = () => Effect.never
      write("1")
      yield* TestClock.adjust("11 seconds")
      assert.deepStrictEqual(said, ["1 timeout", "1 unknown"])
      script.write = () => Effect.void
      for (let second = 0; second < 15; second += 1) yield* TestClock.adjust("1 second")
      write("2")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said.slice(2), ["2 written"])
    }))

  it.effect("refuses what the limit has no room for, until there is room again", () =>
    Effect.gen(function*() {
      const { said, script, write } = yield* setUp({ storeLimit: 100 })
      write("1", 60)
      yield* TestClock.adjust(5)
      write("2", 60)
      assert.deepStrictEqual(said, ["1 written", "2 full"])
      script.used = 10
      yield* TestClock.adjust("10 seconds")
      write("3", 60)
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said.slice(2), ["3 written"])
    }))

  it.effect("uses a store whose size can't be told", () =>
    Effect.gen(function*() {
      const { said, script, services, write } = yield* setUp()
      script.usage = () => Effect.andThen(Effect.sleep("4 seconds"), down)
      yield* TestClock.adjust("60 seconds")
      write("1")
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(said, ["1 written"])
      const { entries } = Context.get(services, LogEntries)
      assert.deepInclude(entries[0], { level: "warn", message: "the store's size is not known" })
    }))

  it.effect("says the last outcomes before it gives back what was not attempted", () =>
    Effect.gen(function*() {
      const { batches, close, script, settle } = yield* setUp()
      settle("1")
      yield* close
      assert.deepStrictEqual(sizes(batches), [[0, 1]])
      assert.strictEqual(script.released, 1)
    }))

  it.effect("keeps what was in a write that the shutdown interrupted", () =>
    Effect.gen(function*() {
      const { batches, close, script, settle } = yield* setUp()
      script.write = () => Effect.never
      settle("1")
      yield* TestClock.adjust(5)
      script.write = () => Effect.void
      yield* close
      assert.deepStrictEqual(sizes(batches), [[0, 1], [0, 1]])
    }))
})
