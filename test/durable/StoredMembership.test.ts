import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { BackendPolicy, BackendRefused } from "../../src/backends/Policy.ts"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { type Backend, parse } from "../../src/domain/Backend.ts"
import type { Outcome } from "../../src/domain/Outcome.ts"
import * as StoredMembership from "../../src/durable/StoredMembership.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { Metrics } from "../../src/observability/metrics/Metrics.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"

interface Options extends Partial<Settings["Service"]> {
  /** Hosts that this replica does not let in. */
  readonly refused?: ReadonlyArray<string>
  /** Names are never resolved here. */
  readonly resolvesNothing?: boolean
}

/** A replica's way to the store. */
class Link {
  isCut = false
  /** Of what the store answers to a look at its backends. */
  delay: Duration.Input = 0

  readonly layer = (database: MemoryDeliveryStore.MemoryDatabase): Layer.Layer<DeliveryStore> =>
    Layer.effect(
      DeliveryStore,
      Effect.map(DeliveryStore, (store) => {
        const through = <A>(operation: Effect.Effect<A, StoreUnavailable>) =>
          Effect.suspend(() => this.isCut ? Effect.fail(new StoreUnavailable({ reason: "cut off" })) : operation)
        return DeliveryStore.of({
          ...store,
          backends: through(Effect.tap(store.backends, () => Effect.sleep(this.delay))),
          putBackend: (...args) => through(store.putBackend(...args)),
          deleteBackend: (...args) => through(store.deleteBackend(...args)),
          noteFailing: (...args) => through(store.noteFailing(...args)),
          clearBackends: (...args) => through(store.clearBackends(...args))
        })
      })
    ).pipe(Layer.provide(MemoryDeliveryStore.layer({ shared: database })))
}

const policyOf = (refused: ReadonlyArray<string>, resolvesNothing: boolean): BackendPolicy["Service"] => {
  const refusalOf = ({ name }: Backend) =>
    refused.includes(name) ? new BackendRefused({ reason: "not here" }) : undefined
  return {
    admit: (backend) => {
      const refusal = refusalOf(backend)
      return refusal !== undefined ? Effect.fail(refusal) : resolvesNothing ? Effect.never : Effect.void
    },
    refusalOf,
    checkAddress: () => undefined
  }
}

/** A replica on a store that others may share. */
const startReplica = Effect.fnUntraced(
  function*(
    database: MemoryDeliveryStore.MemoryDatabase,
    { refused = [], resolvesNothing = false, ...settings }: Options = {}
  ) {
    const link = new Link()
    const scope = yield* Scope.make()
    const services = yield* Layer.buildWithScope(
      BackendRegistry.layer.pipe(
        Layer.provideMerge(StoredMembership.layer),
        Layer.provideMerge(link.layer(database)),
        Layer.provideMerge(Layer.mergeAll(
          Layer.succeed(BackendPolicy, policyOf(refused, resolvesNothing)),
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
      link,
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

const attempt = ({ registry }: Pick<Effect.Success<ReturnType<typeof startReplica>>, "registry">, outcome: Outcome) => {
  for (const backend of registry.snapshot()) registry.recordOutcome(backend, outcome, 0)
}

describe("a dynamic backend that fails", () => {
  const dynamicBackendDeadAfter = Option.some(Duration.hours(1))

  it.effect("stays if a delivery has arrived while the store was away", () =>
    Effect.gen(function*() {
      const replica = yield* startReplica(new MemoryDeliveryStore.MemoryDatabase(), { dynamicBackendDeadAfter })
      yield* replica.register("a.test")
      attempt(replica, "failed")
      yield* TestClock.adjust("30 minutes")
      replica.link.isCut = true
      attempt(replica, "delivered")
      attempt(replica, "failed")
      yield* TestClock.adjust("5 seconds")
      replica.link.isCut = false
      yield* TestClock.adjust("40 minutes")
      attempt(replica, "failed")
      yield* second
      assert.deepStrictEqual(replica.hosts(), ["a.test"])
      yield* TestClock.adjust("30 minutes")
      attempt(replica, "failed")
      yield* second
      assert.deepStrictEqual(replica.hosts(), [])
    }))

  it.effect("stays where one replica can't reach it and another can", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const cutOff = yield* startReplica(database, { dynamicBackendDeadAfter })
      const well = yield* startReplica(database, { dynamicBackendDeadAfter })
      yield* cutOff.register("a.test")
      yield* second
      for (let minutes = 0; minutes < 180; minutes += 10) {
        attempt(cutOff, "unreachable")
        yield* TestClock.adjust("5 minutes")
        attempt(well, "delivered")
        yield* TestClock.adjust("5 minutes")
      }
      assert.deepStrictEqual([cutOff.hosts(), well.hosts()], [["a.test"], ["a.test"]])
    }))

  it.effect("and recovers again and again still follows what other replicas change", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const one = yield* startReplica(database, { dynamicBackendDeadAfter })
      const other = yield* startReplica(database, { dynamicBackendDeadAfter })
      yield* one.register("a.test")
      yield* TestClock.adjust("2 seconds")
      other.link.delay = "500 millis"
      const filter = { repositories: new Set(["org/*"]), events: undefined }
      yield* one.registry.register({ url: "http://a.test", filter })
      for (let step = 0; step < 40; step += 1) {
        attempt(other, step % 2 === 0 ? "failed" : "delivered")
        yield* TestClock.adjust("100 millis")
      }
      assert.deepStrictEqual(other.registry.filterOf(other.registry.snapshot()[0]!), filter)
    }))
})

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
          body: [],
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

describe("a process that has just started", () => {
  it.effect("does not know the backends before it has seen the store's, and says so once", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      database.fail = true
      const replica = yield* startReplica(database)
      assert.isFalse(replica.registry.isKnown())
      // A replica that has registered a backend itself still does not know the others.
      assert.strictEqual(yield* replica.register("a.test"), "registered")
      yield* TestClock.adjust("1 minute")
      assert.isFalse(replica.registry.isKnown())
      database.fail = false
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(replica.registry.isKnown())
      database.fail = true
      yield* TestClock.adjust("1 minute")
      assert.isTrue(replica.registry.isKnown())
      assert.deepStrictEqual(
        replica.entries.map(({ message }) => message).filter((message) => /known|has not said/.test(message)),
        [
          "the store has not said which backends there are: not ready, and no delivery is taken",
          "the backends are known"
        ]
      )
    }))

  it.effect("knows all backends that there are where none is dynamic", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      database.fail = true
      const replica = yield* startReplica(database, { enableDynamicBackends: false })
      assert.isTrue(replica.registry.isKnown())
    }))

  it.effect("has all of the stored backends at once, and resolves no names for it", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const before = yield* startReplica(database)
      yield* Effect.forEach(Array.from({ length: 300 }, (_, n) => `n${n}.test`), (host) => before.register(host))
      const after = yield* startReplica(database, { resolvesNothing: true })
      assert.isTrue(after.registry.isKnown())
      assert.lengthOf(after.hosts(), 300)
    }))

  it.effect("passes over what an earlier version has stored and is no backend, says so once, and can unregister it", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const { register, store } = yield* startReplica(database)
      const long = `http://b.test/${"%E5%AD%97".repeat(300)}`
      for (const key of ["http://a.test,", long]) yield* store.putBackend({ key, url: key, ttl: undefined }, 10)
      yield* store.putBackend({ key: "http://c.test/", url: "http://c.test/", ttl: undefined }, 10)
      yield* register("d.test")
      const replica = yield* startReplica(database)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(replica.hosts(), ["d.test"])
      assert.lengthOf(replica.entries.filter(({ message }) => message === "server not registered"), 3)
      yield* replica.registry.unregister("http://a.test,")
      yield* replica.registry.unregister(long)
      yield* second
      assert.deepStrictEqual((yield* store.backends).map(({ key }) => key).toSorted(), [
        "http://c.test/",
        "http://d.test"
      ])
      assert.isTrue(
        Predicate.isTagged(yield* Effect.flip(replica.registry.unregister("http://a.test,")), "BackendNotFound")
      )
    }))
})

describe("a replica that was cut off", () => {
  const twoReplicas = Effect.gen(function*() {
    const database = new MemoryDeliveryStore.MemoryDatabase()
    return [yield* startReplica(database), yield* startReplica(database)] as const
  })

  it.effect("does not unregister what another has registered anew since", () =>
    Effect.gen(function*() {
      const [one, other] = yield* twoReplicas
      yield* one.register("a.test")
      yield* second
      one.link.isCut = true
      yield* one.unregister("a.test")
      yield* TestClock.adjust("5 seconds")
      yield* other.unregister("a.test")
      yield* second
      yield* other.register("a.test")
      yield* TestClock.adjust("5 seconds")
      one.link.isCut = false
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["a.test"], ["a.test"]])
    }))

  it.effect("does not bring back what another has unregistered since", () =>
    Effect.gen(function*() {
      const [one, other] = yield* twoReplicas
      yield* one.register("a.test")
      yield* second
      one.link.isCut = true
      assert.strictEqual(yield* one.register("a.test", Duration.hours(48)), "renewed")
      yield* TestClock.adjust("5 seconds")
      yield* other.unregister("a.test")
      // For longer than rows are cleared.
      yield* TestClock.adjust("5 minutes")
      one.link.isCut = false
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [[], []])
    }))

  it.effect("makes what nobody else has changed since, with the time that is left", () =>
    Effect.gen(function*() {
      const [one, other] = yield* twoReplicas
      yield* one.register("a.test")
      yield* second
      one.link.isCut = true
      yield* one.unregister("a.test")
      yield* one.register("b.test", Duration.minutes(1))
      yield* one.register("c.test", Duration.seconds(10))
      yield* TestClock.adjust("50 seconds")
      one.link.isCut = false
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["b.test"], ["b.test"]])
      yield* TestClock.adjust("8 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [[], []])
    }))

  it.effect("asks the store no more than once while it is away, however many changes there are", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const replica = yield* startReplica(database)
      database.hang()
      const changes = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 100 }, () => "a.test"), (host) => replica.register(host), {
          concurrency: "unbounded"
        }),
        { startImmediately: true }
      )
      yield* TestClock.adjust("2 seconds")
      const answers = yield* Fiber.join(changes)
      assert.lengthOf(answers.filter((answer) => answer === "registered"), 1)
    }))
})

describe("a registration with a ttl that ends while the store is away", () => {
  it.effect("ends what the store has of it too", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      yield* one.register("a.test")
      yield* second
      one.link.isCut = true
      yield* one.register("a.test", Duration.seconds(5))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [[], ["a.test"]])
      one.link.isCut = false
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [[], []])
    }))
})

describe("a change that can't be written", () => {
  it.effect("is refused where the store would never take it, and stops nothing", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      yield* one.register("old.test")
      const never = new StoreUnavailable({ reason: "can't be encoded", fault: "content" })
      database.refusesBackend = (key) => key === "http://bad.test" ? never : undefined
      const error = yield* Effect.flip(one.register("bad.test"))
      assert.deepInclude(error, { _tag: "BackendRefused", reason: "the store can't keep it" })
      yield* other.register("good.test")
      yield* second
      assert.deepStrictEqual(one.hosts(), ["good.test", "old.test"])
    }))

  it.effect("is dropped if it had to wait, and stops neither other changes nor those of others", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      one.link.isCut = true
      for (const host of ["bad.test", "good.test"]) yield* one.register(host)
      const never = new StoreUnavailable({ reason: "can't be encoded", fault: "content" })
      database.refusesBackend = (key) => key === "http://bad.test" ? never : undefined
      one.link.isCut = false
      yield* other.register("new.test")
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["good.test", "new.test"], ["good.test", "new.test"]])
      assert.lengthOf(one.entries.filter(({ message }) => message === "a change of the backends is dropped"), 1)
    }))

  it.effect("holds where it was made while the store takes none, and those of others are seen", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      yield* one.register("old.test")
      yield* second
      database.refusesBackend = (key) =>
        key.startsWith("http://new") ? undefined : new StoreUnavailable({ reason: "read-only" })
      yield* one.register("here.test")
      yield* one.unregister("old.test")
      yield* other.register("new.test")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(one.hosts(), ["here.test", "new.test"])
      assert.deepStrictEqual(other.hosts(), ["new.test", "old.test"])
      assert.isTrue((yield* startReplica(database)).registry.isKnown())
    }))
})

describe("what the store answers", () => {
  it.effect("decides whether a backend is renewed, although it has not shown up here yet", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
      yield* one.register("a.test")
      assert.strictEqual(yield* other.register("a.test"), "renewed")
      assert.deepStrictEqual(other.hosts(), ["a.test"])
      yield* one.unregister("a.test")
      assert.strictEqual(yield* other.register("a.test"), "registered")
    }))

  it.effect("decides whether there is room, although here there is none yet", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const settings = { dynamicBackendLimit: 1 }
      const [one, other] = [yield* startReplica(database, settings), yield* startReplica(database, settings)]
      yield* one.register("a.test")
      yield* second
      yield* one.unregister("a.test")
      assert.strictEqual(yield* other.register("b.test"), "registered")
      yield* second
      assert.deepStrictEqual([one.hosts(), other.hosts()], [["b.test"], ["b.test"]])
    }))

  it.effect("is not there to decide while it is away: there is room for as many as are here, and for none that was refused", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const replica = yield* startReplica(database, { dynamicBackendLimit: 1 })
      database.fail = true
      yield* replica.register("a.test")
      assert.isTrue(Predicate.isTagged(yield* Effect.flip(replica.register("b.test")), "BackendLimitReached"))
      yield* replica.unregister("a.test")
      yield* replica.register("c.test")
      database.fail = false
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual((yield* replica.store.backends).map(({ url }) => url), ["http://c.test"])
    }))

  it.effect("is out of date for what was unregistered here while it was on its way", () =>
    Effect.gen(function*() {
      const replica = yield* startReplica(new MemoryDeliveryStore.MemoryDatabase())
      yield* replica.register("a.test")
      yield* replica.register("b.test")
      replica.link.delay = "900 millis"
      yield* TestClock.adjust("1500 millis")
      yield* replica.unregister("a.test")
      yield* replica.register("c.test")
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(replica.hosts(), ["b.test", "c.test"])
    }))

  it.effect("is remembered of no backend that was never here", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const replica = yield* startReplica(database)
      database.fail = true
      assert.isTrue(Predicate.isTagged(yield* Effect.flip(replica.unregister("a.test")), "BackendNotFound"))
      assert.deepStrictEqual(replica.entries.filter(({ message }) => message.includes("has not taken")), [])
    }))
})

describe("the clocks", () => {
  it.effect.each([600_000, -600_000, 4 * 24 * 3_600_000])(
    "of a store that is %d ms ahead end a backend when its ttl is over, and not before",
    (ahead) =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1e12)
        const database = new MemoryDeliveryStore.MemoryDatabase()
        database.ahead = ahead
        const [one, other] = [yield* startReplica(database), yield* startReplica(database)]
        yield* one.register("a.test", Duration.minutes(5))
        yield* TestClock.adjust("299 seconds")
        assert.deepStrictEqual([one.hosts(), other.hosts()], [["a.test"], ["a.test"]])
        const [listed] = yield* other.registry.list
        assert.isAtMost(Math.abs(listed!.expiresAt! - 1e12 - 300_000), 1_000)
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual([one.hosts(), other.hosts()], [[], []])
      })
  )
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
