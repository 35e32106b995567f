import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { parse } from "../src/Backend.ts"
import * as BackendMembership from "../src/BackendMembership.ts"
import { BackendPolicy, BackendRefused } from "../src/BackendPolicy.ts"
import { BackendRegistry } from "../src/BackendRegistry.ts"
import { DeliveryStore } from "../src/DeliveryStore.ts"
import { Log, LogEntries } from "../src/Logging.ts"
import { Metrics } from "../src/Metrics.ts"
import { Settings } from "../src/Settings.ts"
import * as MemoryDeliveryStore from "./MemoryDeliveryStore.ts"

interface Options extends Partial<Settings["Service"]> {
  /** Hosts that this replica does not let in. */
  readonly refused?: ReadonlyArray<string>
}

/** A replica on a store that others may share. */
const startReplica = Effect.fnUntraced(
  function*(database: MemoryDeliveryStore.MemoryDatabase, { refused = [], ...settings }: Options = {}) {
    const scope = yield* Scope.make()
    const services = yield* Layer.buildWithScope(
      BackendRegistry.layer.pipe(
        Layer.provideMerge(BackendMembership.layerStore),
        Layer.provideMerge(MemoryDeliveryStore.layer({ shared: database })),
        Layer.provideMerge(Layer.mergeAll(
          Layer.succeed(BackendPolicy, {
            admit: ({ name }) =>
              refused.includes(name) ? Effect.fail(new BackendRefused({ reason: "not here" })) : Effect.void,
            checkAddress: () => undefined,
            addOwnListener: () => {}
          }),
          Log.layerTest,
          Metrics.layer
        )),
        Layer.provideMerge(Settings.layerFrom({ enableDynamicBackends: true, ...settings }))
      ),
      scope
    )
    const registry = Context.get(services, BackendRegistry)
    const { entries } = Context.get(services, LogEntries)
    return {
      entries,
      register: (host: string, ttl?: Duration.Duration) => registry.register({ url: `http://${host}`, ttl }),
      registry,
      stop: Scope.close(scope, Exit.void),
      store: Context.get(services, DeliveryStore),
      unregister: (host: string) => registry.unregister(`http://${host}`),
      hosts: () => registry.snapshot().map(({ name }) => name).toSorted()
    }
  }
)

const second = TestClock.adjust("1 second")

describe("dynamic backends in a store", () => {
  it.effect("survive a restart, with the time they have left", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const before = yield* startReplica(database)
      yield* before.register("a.test")
      yield* before.register("b.test", Duration.minutes(1))
      yield* before.stop
      yield* TestClock.adjust("50 seconds")
      const after = yield* startReplica(database)
      assert.deepStrictEqual(after.hosts(), ["a.test", "b.test"])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(after.hosts(), ["a.test"])
      const [listed] = yield* after.registry.list
      assert.strictEqual(listed!.registeredAt, 0)
    }))

  it.effect("come and go on every replica within a second", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      assert.strictEqual(yield* one.register("a.test"), "registered")
      yield* other.register("b.test")
      yield* second
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["a.test", "b.test"], ["a.test", "b.test"]])
      assert.strictEqual(yield* other.register("a.test"), "renewed")
      yield* other.unregister("a.test")
      yield* second
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["b.test"], ["b.test"]])
    }))

  it.effect("stay the same object while nothing changes: connections belong to it", () =>
    Effect.gen(function*() {
      const replica = yield* startReplica(new MemoryDeliveryStore.MemoryDatabase())
      yield* replica.register("a.test")
      const before = replica.registry.snapshot()
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(replica.registry.snapshot(), before)
    }))

  it.effect("can be unregistered where they have not shown up yet", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      yield* one.register("a.test")
      yield* other.unregister("a.test")
      yield* second
      assert.deepStrictEqual([one.hosts(), other.hosts()], [[], []])
      assert.isTrue(Predicate.isTagged(yield* Effect.flip(other.unregister("a.test")), "BackendNotFound"))
    }))

  it.effect("are limited in all, not for each replica", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [
        yield* startReplica(database, { dynamicBackendLimit: 2 }),
        yield* startReplica(database, { dynamicBackendLimit: 2 })
      ]
      yield* one.register("a.test")
      yield* one.register("b.test")
      assert.isTrue(Predicate.isTagged(yield* Effect.flip(other.register("c.test")), "BackendLimitReached"))
      yield* second
      assert.deepStrictEqual(other.hosts(), ["a.test", "b.test"])
    }))

  it.effect("are not used by a replica that would not let them in, which says so once", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const one = yield* startReplica(database)
      const other = yield* startReplica(database, { refused: ["a.test"] })
      yield* one.register("a.test")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["a.test"], []])
      assert.lengthOf(other.entries.filter(({ message }) => message === "server not registered"), 1)
    }))

  it.effect("are no second time what is static", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const one = yield* startReplica(database)
      yield* one.register("a.test")
      const other = yield* startReplica(database, { backends: [Result.getOrThrow(parse("http://a.test", "static"))] })
      yield* second
      assert.deepStrictEqual(other.hosts(), ["a.test"])
      assert.isTrue(Predicate.isTagged(yield* Effect.flip(other.unregister("a.test")), "StaticBackend"))
      assert.strictEqual(yield* other.register("a.test"), "renewed")
    }))

  it.effect("have what they were to get cancelled when they go", () =>
    Effect.gen(function*() {
      const replica = yield* startReplica(new MemoryDeliveryStore.MemoryDatabase())
      yield* replica.register("a.test")
      yield* replica.store.write({
        settlements: [],
        deliveries: [{
          id: "1",
          requestId: "1",
          hookId: "",
          guid: "1",
          event: undefined,
          method: "POST",
          target: "/",
          headers: [],
          body: Buffer.alloc(0),
          bodyHash: "",
          targets: [{ key: "http://a.test", url: "http://a.test", held: true }]
        }]
      })
      yield* replica.unregister("a.test")
      const [shown] = yield* replica.store.show("1")
      assert.strictEqual(shown!.rows[0]!.state, "cancelled")
    }))
})

describe("a store that is away", () => {
  it.effect("stops nobody from registering, and gets the changes when it is back, the last for each backend", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      yield* one.register("old.test")
      yield* second
      database.fail = true
      assert.strictEqual(yield* one.register("a.test"), "registered")
      yield* one.register("b.test")
      yield* one.unregister("b.test")
      yield* one.unregister("old.test")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["a.test"], ["old.test"]])
      database.fail = false
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["a.test"], ["a.test"]])
    }))

  it.effect("does not stop the start; its backends come when it does", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const before = yield* startReplica(database)
      yield* before.register("a.test")
      yield* before.stop
      database.hang()
      const starting = yield* Effect.forkChild(startReplica(database), { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      const after = yield* Fiber.join(starting)
      assert.deepStrictEqual(after.hosts(), [])
      database.resume()
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(after.hosts(), ["a.test"])
    }))
})

describe("many changes at once", () => {
  it.effect("lose none", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      const hosts = Array.from({ length: 500 }, (_, n) => `n${n}.test`)
      yield* Effect.forEach(hosts, (host, n) => (n % 2 === 0 ? one : other).register(host), { concurrency: 50 })
      yield* Effect.forEach(hosts.slice(250), (host, n) => (n % 3 === 0 ? one : other).unregister(host), {
        concurrency: 50
      })
      yield* second
      assert.deepStrictEqual(one.hosts(), hosts.slice(0, 250).toSorted())
      assert.deepStrictEqual(other.hosts(), one.hosts())
    }))
})
