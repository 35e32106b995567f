import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { StoreMetrics } from "../../../src/durable/StoreMetrics.ts"
import { StoreWriter } from "../../../src/durable/writing/StoreWriter.ts"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import { DeliveryStore } from "../../../src/store/DeliveryStore.ts"
import type { NewDelivery, Recorded } from "../../../src/store/contract/Queue.ts"
import type { NumberedSettlement, StoredAttempt } from "../../../src/store/contract/Row.ts"
import { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"
import { attemptOf } from "../../support/StoreDatabases.ts"

type Batch = {
  readonly deliveries: ReadonlyArray<NewDelivery>
  readonly settlements: ReadonlyArray<NumberedSettlement>
}

const recordedOf = ({ id, targets }: NewDelivery): Recorded => ({
  id,
  isRedelivery: false,
  owned: targets.map(({ key }) => key)
})

const setUp = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]> = {}) {
  const batches: Array<Batch> = []
  /** How the store answers. */
  const script = {
    write: (_batch: Batch): Effect.Effect<void, StoreUnavailable> => Effect.void,
    probe: undefined as Effect.Effect<void, StoreUnavailable> | undefined,
    used: 0,
    usage: (): Effect.Effect<void, StoreUnavailable> => Effect.void,
    released: 0
  }
  const store = {
    write: (batch: Batch) =>
      Effect.suspend(() => {
        batches.push(batch)
        return Effect.as(script.write(batch), batch.deliveries.map(recordedOf))
      }),
    probe: Effect.suspend(() => script.probe ?? script.write({ deliveries: [], settlements: [] })),
    usage: Effect.suspend(() => Effect.as(script.usage(), script.used)),
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
  const settle = (id: string, attempt?: Partial<StoredAttempt>) =>
    writer.settle({
      id,
      key: "http://a",
      attempt: attempt === undefined ? undefined : attemptOf(0, attempt),
      isFirst: true,
      become: "delivered"
    })
  const lines = () => Context.get(services, LogEntries).entries.map(({ message }) => message)
  yield* TestClock.adjust(0)
  return {
    batches,
    lines,
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

/** Whatever batch has one of these in it is refused for that. */
const refusing = (...bad: ReadonlyArray<string>) => ({ deliveries, settlements }: Batch) =>
  [...deliveries, ...settlements].some(({ id }) => bad.includes(id))
    ? Effect.fail(new StoreUnavailable({ reason: "its tables don't take it", fault: "content" }))
    : Effect.void

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
      for (const [id, size] of [["1", 25], ["2", 1.5], ["3", 0.5], ["4", 0.5]] as const) write(id, size * mebibyte)
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
      assert.isFalse(writer.hasCaughtUp())
      assert.isUndefined(writer.caughtUpSince())
      write("2")
      assert.deepStrictEqual(said.slice(2), ["2 unavailable"])
    }))

  it.effect("uses a store again that comes back, within a second or two", () =>
    Effect.gen(function*() {
      const { said, script, services, write, writer } = yield* setUp()
      assert.strictEqual(writer.caughtUpSince(), -Infinity)
      script.write = () => down
      write("1")
      yield* TestClock.adjust(5)
      yield* TestClock.adjust("10 seconds")
      script.write = () => Effect.void
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(writer.hasCaughtUp())
      assert.closeTo(writer.caughtUpSince()!, 11_000, 1_005)
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

  it.effect("says of no outcome that waited for the store that its row is still young", () =>
    Effect.gen(function*() {
      const { batches, script, settle } = yield* setUp()
      settle("before")
      yield* TestClock.adjust(20)
      script.write = () => down
      settle("failed")
      yield* TestClock.adjust("5 seconds")
      for (let n = 0; n < 2_000; n += 1) settle("meanwhile")
      script.write = () => Effect.void
      script.probe = Effect.void
      yield* TestClock.adjust("5 seconds")
      settle("after")
      yield* TestClock.adjust(20)
      const words = batches.flatMap(({ settlements }) => settlements.map(({ id, isFirst }) => `${id} ${isFirst}`))
      assert.deepStrictEqual([...new Set(words)], [
        "before true",
        "failed true",
        "failed false",
        "meanwhile false",
        "after true"
      ])
    }))

  it.effect("drops no outcome while the store answers questions and takes nothing, however long that is", () =>
    Effect.gen(function*() {
      const { batches, lines, script, settle, writer } = yield* setUp()
      script.write = () => down
      const ids = Array.from({ length: 40 }, (_, at) => `${at}`)
      for (const id of ids) settle(id)
      for (let second = 0; second < 600; second += 1) yield* TestClock.adjust("1 second")
      assert.isFalse(writer.hasCaughtUp())
      script.write = () => Effect.void
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(batches.at(-1)?.settlements.map(({ id }) => id), ids)
      assert.deepStrictEqual(lines(), [
        "the store is down: deliveries are forwarded without it",
        "the store is used again"
      ])
    }))

  it.effect("numbers an outcome once, however often it is written", () =>
    Effect.gen(function*() {
      const { batches, script, settle } = yield* setUp()
      script.write = () => down
      script.probe = Effect.void
      for (const id of ["1", "2"]) settle(id)
      yield* TestClock.adjust("10 seconds")
      script.write = () => Effect.void
      yield* TestClock.adjust("10 seconds")
      assert.isAbove(batches.length, 5)
      const numbers = Map.groupBy(batches.flatMap(({ settlements }) => settlements), ({ id }) => id)
      const [first, second] = ["1", "2"].map((id) => new Set(numbers.get(id)!.map(({ n }) => n)))
      assert.strictEqual(first!.size, 1)
      assert.strictEqual(second!.size, 1)
      assert.notDeepEqual(first, second)
    }))

  it.effect("stays down to operators where only the probe succeeds", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { lines, script, settle, write, writer } = yield* setUp()
      const up = Effect.map(scrape, (seen) => seen.value("sprayproxy_store_up"))
      script.write = ({ deliveries }) => deliveries.length > 0 ? down : Effect.void
      script.probe = Effect.void
      write("1")
      yield* TestClock.adjust("3 seconds")
      for (let second = 0; second < 300; second += 1) {
        write(`${second}`)
        yield* TestClock.adjust("1 second")
        if (second > 2) assert.strictEqual(yield* up, 0)
      }
      assert.strictEqual(lines().filter((line) => line.startsWith("the store is down")).length, 2)
      script.write = () => Effect.void
      settle("1")
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(writer.hasCaughtUp())
      assert.strictEqual(yield* up, 1)
    })))

  it.effect("has not caught up before all is written that waited while it was down", () =>
    Effect.gen(function*() {
      const { script, settle, writer } = yield* setUp()
      script.write = () => down
      script.probe = down
      let left = 2_500
      for (let n = 0; n < left; n += 1) settle(`${n}`)
      yield* TestClock.adjust("5 seconds")
      const seen: Array<boolean> = []
      script.probe = Effect.void
      script.write = ({ settlements }) =>
        Effect.sync(() => {
          seen.push(writer.hasCaughtUp())
          left -= settlements.length
        })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([left, writer.hasCaughtUp()], [0, true])
      assert.isAbove(seen.length, 2)
      assert.notInclude(seen, true)
    }))

  it.effect("finds out that a store is gone to which nobody writes", () =>
    Effect.gen(function*() {
      const { script, writer } = yield* setUp()
      script.probe = down
      yield* TestClock.adjust("31 seconds")
      assert.isFalse(writer.hasCaughtUp())
      script.probe = Effect.void
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(writer.hasCaughtUp())
    }))

  it.effect("writes all others where a delivery can't be stored, in few transactions, and is not down", () =>
    Effect.gen(function*() {
      const { batches, lines, said, script, settle, write, writer } = yield* setUp()
      script.write = refusing("77", "200")
      const ids = Array.from({ length: 256 }, (_, at) => `${at}`)
      for (const id of ids) write(id)
      for (const id of ids) settle(`outcome ${id}`)
      yield* TestClock.adjust(30)
      const others = ids.filter((id) => id !== "77" && id !== "200")
      assert.sameMembers(said, [...others.map((id) => `${id} written`), "77 unstorable", "200 unstorable"])
      assert.isBelow(batches.length, 40)
      assert.isTrue(writer.hasCaughtUp())
      const settled = batches.filter(({ deliveries }) => deliveries.length === 0).flatMap((batch) => batch.settlements)
      assert.deepStrictEqual(settled.map(({ id }) => id), ids.map((id) => `outcome ${id}`))
      const line = "a delivery can't be stored, and is forwarded without the store"
      assert.deepStrictEqual(lines(), [line, line])
    }))

  it.effect("takes a batch apart only so far when nothing in it can be stored", () =>
    Effect.gen(function*() {
      const { batches, said, script, write, writer } = yield* setUp()
      const ids = Array.from({ length: 256 }, (_, at) => `${at}`)
      script.write = refusing(...ids)
      for (const id of ids) write(id)
      yield* TestClock.adjust(5)
      assert.sameMembers(said, ids.map((id) => `${id} unstorable`))
      assert.isAtMost(batches.length, 64)
      script.write = () => Effect.void
      write("good")
      yield* TestClock.adjust(5)
      assert.strictEqual(said.at(-1), "good written")
      assert.isTrue(writer.hasCaughtUp())
    }))

  it.effect("keeps an outcome without its texts if these can't be stored, and drops it if it can't be either", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { batches, lines, script, settle, writer } = yield* setUp()
      script.write = (batch) => {
        const isForeign = batch.settlements.some(({ attempt }) => attempt?.answer === "\ud83d\udd11")
        return refusing("bad", ...isForeign ? batch.settlements.map(({ id }) => id) : [])(batch)
      }
      for (const id of ["1", "2"]) settle(id, { answer: "no" })
      settle("foreign", { answer: "\ud83d\udd11" })
      settle("bad", { answer: "no" })
      settle("3")
      yield* TestClock.adjust(30)
      const failed = new Set(batches.filter((batch) => batch.settlements.some(({ id }) => id === "bad")))
      const written = batches.filter((batch) => !failed.has(batch)).flatMap(({ settlements }) => settlements)
      const kept = new Map(written.map(({ attempt, id }) => [id, attempt?.answer]))
      assert.deepStrictEqual([...kept], [["1", "no"], ["2", "no"], ["foreign", undefined], ["3", undefined]])
      assert.isTrue(writer.hasCaughtUp())
      assert.deepStrictEqual(lines(), ["an outcome can't be stored, and is dropped"])
      const drops = "sprayproxy_store_outcomes_dropped_total{reason=\"unstorable\"}"
      assert.strictEqual((yield* scrape).value(drops), 1)
    })))

  it.effect("lets no delivery wait for longer than 2 s, and tells it when it was written after all", () =>
    Effect.gen(function*() {
      const { said, script, write } = yield* setUp()
      const disk = yield* Deferred.make<void>()
      script.write = () => Deferred.await(disk)
      write("1")
      yield* TestClock.adjust(100)
      write("2")
      yield* TestClock.adjust(1_950)
      // A delivery that comes while the store hangs does not wait at all. The second was never begun.
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
      yield* TestClock.adjust(30)
      script.write = () => Effect.void
      yield* close
      assert.deepStrictEqual(sizes(batches), [[0, 1], [0, 1]])
    }))
})
