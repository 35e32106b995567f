import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import { BackendPolicy } from "../../src/backends/Policy.ts"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { BackendConnections } from "../../src/backends/connections/Connections.ts"
import { Resolver } from "../../src/backends/connections/Resolver.ts"
import { parse } from "../../src/domain/Backend.ts"
import { Body } from "../../src/domain/Body.ts"
import type { Delivery } from "../../src/domain/Delivery.ts"
import { BackendBreakers } from "../../src/durable/BackendBreakers.ts"
import * as Backlog from "../../src/durable/Backlog.ts"
import { SettlementPolicy } from "../../src/durable/SettlementPolicy.ts"
import { StoreMetrics } from "../../src/durable/StoreMetrics.ts"
import * as StoredLedger from "../../src/durable/StoredLedger.ts"
import { FallbackRecords } from "../../src/durable/fallback/FallbackRecords.ts"
import { DeliveryIds } from "../../src/durable/writing/DeliveryIds.ts"
import { StoreWriter } from "../../src/durable/writing/StoreWriter.ts"
import { Forwarder } from "../../src/forwarding/Forwarder.ts"
import { Spray } from "../../src/forwarding/Spray.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import { DeliveryLog } from "../../src/observability/logs/DeliveryLog.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { Metrics } from "../../src/observability/metrics/Metrics.ts"
import { MemoryBudget } from "../../src/runtime/MemoryBudget.ts"
import { OwnListeners } from "../../src/runtime/OwnListeners.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { TurnBudget } from "../../src/runtime/TurnBudget.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"
import { ScriptedConnections, type Sent } from "../support/ScriptedDispatcher.ts"
import { replyOf } from "../support/SprayReply.ts"
import { newDelivery } from "../support/StoreDatabases.ts"

const [a, b] = ["http://a.test", "http://b.test"].map((url) => Result.getOrThrow(parse(url, "static"))) as [
  Backend,
  Backend
]
type Backend = Result.Result.Success<ReturnType<typeof parse>>

const guidOf = (sent: Sent) => (sent.options.headers as ReadonlyArray<string>)[1]!

/** Durable mode as a whole, between a store in memory and backends that the test plays. */
const setUp = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]> = {}) {
  const connections = new ScriptedConnections()
  const database = new MemoryDeliveryStore.MemoryDatabase()
  const services = yield* Layer.build(
    Backlog.layer.pipe(
      Layer.provideMerge(Spray.layer),
      Layer.provideMerge(Layer.mergeAll(Forwarder.layer, DeliveryLog.layer, MemoryBudget.layer, BackendRegistry.layer)),
      Layer.provideMerge(Layer.provide(StoredLedger.layer, FallbackRecords.layerNone)),
      Layer.provideMerge(StoreWriter.layer),
      Layer.provideMerge(
        Layer.mergeAll(BackendBreakers.layer, SettlementPolicy.layer, StoreMetrics.layer, DeliveryIds.layer)
      ),
      Layer.provideMerge(MemoryDeliveryStore.layer({ shared: database })),
      Layer.provideMerge(
        Layer.mergeAll(
          Layer.succeed(BackendConnections, connections.service),
          BackendPolicy.layer.pipe(Layer.provide(OwnListeners.layer))
        )
      ),
      Layer.provideMerge(Layer.mergeAll(Resolver.layerFrom(() => {}), Log.layerTest, Metrics.layer, Timers.layerClock)),
      Layer.provideMerge(Layer.mergeAll(TurnBudget.layerUnlimited, Readiness.layer)),
      Layer.provideMerge(Settings.layerFrom({ backends: [a, b], forwardingRetries: 0, ...settings }))
    )
  )
  const spray = Context.get(services, Spray)
  const budget = Context.get(services, MemoryBudget)
  const timers = Context.get(services, Timers)
  const store = Context.get(services, DeliveryStore)
  const at = { a: connections.to(a), b: connections.to(b) }
  const deliver = Effect.fnUntraced(function*(guid: string, body = guid) {
    const reservation = budget.open()
    reservation.hold(body.length)
    const delivery: Delivery = {
      requestId: guid,
      guid,
      event: "push",
      method: "POST",
      target: "/proxy?x=1",
      forwardedTarget: "/?x=1",
      headers: ["X-GitHub-Delivery", guid],
      body: new Body([Buffer.from(body)], body.length)
    }
    const reply = yield* Effect.forkChild(replyOf(spray, delivery, reservation, timers.now() + 9_000), {
      startImmediately: true
    })
    yield* TestClock.adjust(3)
    return yield* Fiber.join(reply)
  })
  /** Of the only delivery that was tried there. */
  const attemptsAt = ({ key }: Backend) => [...database.deliveries.values()][0]!.rows.get(key)!.attempts
  const { entries } = Context.get(services, LogEntries)
  return {
    at,
    attemptsAt,
    budget,
    database,
    deliver,
    entries,
    readiness: Context.get(services, Readiness),
    spray,
    store
  }
})

/** In steps, so that what a tick begins is done before the next. */
const advance = Effect.fnUntraced(function*(millis: number, step = 250) {
  for (let passed = 0; passed < millis; passed += step) yield* TestClock.adjust(Math.min(step, millis - passed))
})

/** The state of the only delivery's row at this backend. */
const stateAt = (database: MemoryDeliveryStore.MemoryDatabase, { key }: Backend) =>
  [...database.deliveries.values()][0]!.rows.get(key)!.state

/** Answers by what is asked for: what comes with this GUID's beginning is refused. */
const refusing = (guid: string, status: number) => (sent: Sent) =>
  void sent.answer(guidOf(sent).startsWith(guid) ? status : 202)

const accept = (sent: Sent) => void sent.answer(202)
const refuse = (sent: Sent) => void sent.fail("ECONNREFUSED")

describe("a backend that refuses some deliveries", () => {
  it.effect.each([403, 404, 414, 500])(
    "goes on getting the others at once, when it refuses with %d",
    (status) =>
      Effect.gen(function*() {
        const { at, deliver } = yield* setUp()
        at.a.onDispatch = accept
        at.b.onDispatch = refusing("bad", status)
        for (let n = 0; n < 200; n += 1) yield* deliver(`bad-${n}`)
        for (let n = 0; n < 60; n += 1) {
          yield* deliver(`bad-more-${n}`)
          yield* deliver(`good-${n}`)
          assert.strictEqual(guidOf(at.b.last), `good-${n}`)
          yield* advance(494)
        }
      })
  )

  it.effect("gets what came while it was away, though others are refused again and again", () =>
    Effect.gen(function*() {
      const { at, database, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      for (let n = 0; n < 40; n += 1) yield* deliver(`bad-${n}`)
      for (let n = 0; n < 10; n += 1) yield* deliver(`good-${n}`)
      at.b.onDispatch = refusing("bad", 404)
      yield* advance(60_000)
      const states = [...database.deliveries.values()].filter(({ head }) => head.guid!.startsWith("good"))
        .map(({ rows }) => rows.get(b.key)!.state)
      assert.deepStrictEqual(states, states.map(() => "delivered"))
    }))
})

describe("a backend that hangs on one delivery", () => {
  it.effect("gets the others within two seconds, though nothing else comes", () =>
    Effect.gen(function*() {
      const { at, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      for (let n = 0; n < 5; n += 1) yield* deliver(`away-${n}`)
      at.b.onDispatch = (sent) => guidOf(sent) === "hangs" ? void sent.start() : accept(sent)
      yield* deliver("hangs")
      const from = at.b.sent.length
      for (let n = 0; n < 30; n += 1) yield* deliver(`held-${n}`)
      yield* advance(2_000)
      const arrived = new Set(at.b.sent.slice(from).map(guidOf).filter((guid) => guid.startsWith("held")))
      assert.strictEqual(arrived.size, 30)
    }))

  it.effect("that has just come back gets what was held meanwhile at once", () =>
    Effect.gen(function*() {
      const { at, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      for (let n = 0; n < 5; n += 1) yield* deliver(`away-${n}`)
      at.b.onDispatch = (sent) => void sent.start()
      yield* deliver("probe")
      const probe = at.b.last
      // Nothing of the backlog may find out before it.
      for (let n = 0; n < 100; n += 1) yield* deliver(`held-${n}`)
      at.b.onDispatch = accept
      probe.answer(202)
      yield* advance(1_000)
      const arrived = new Set(at.b.sent.map(guidOf).filter((guid) => guid.startsWith("held")))
      assert.strictEqual(arrived.size, 100)
    }))
})

const narrowed = { backends: [a], backendRepositories: [{ key: a.key, url: a.url, values: ["org/*"] }] }
const toA = [{ key: a.key, url: a.url, held: true }]
const wanted = { ...newDelivery({ body: Buffer.from(`{"repository":{"full_name":"org/repo"}}`) }), targets: toA }
const foreign = (count: number) =>
  Array.from(
    { length: count },
    () => ({ ...newDelivery({ body: Buffer.from(`{"repository":{"full_name":"x/y"}}`) }), targets: toA })
  )

/** How many rows of the backend have each state. */
const statesAt = (database: MemoryDeliveryStore.MemoryDatabase, { key }: Backend) => {
  const counts: Record<string, number> = {}
  for (const { rows } of database.deliveries.values()) {
    const state = rows.get(key)?.state
    if (state !== undefined) counts[state] = (counts[state] ?? 0) + 1
  }
  return counts
}

describe("a backlog", () => {
  it.effect("is sent byte for byte when its backend is there again, and to that backend alone", () =>
    Effect.gen(function*() {
      const { at, budget, deliver, store } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      assert.strictEqual(yield* deliver("1", "héllo"), "accepted")
      assert.deepStrictEqual([at.a.sent.length, at.b.sent.length], [1, 1])
      at.b.onDispatch = accept
      yield* advance(3_000)
      assert.deepStrictEqual([at.a.sent.length, at.b.sent.length], [1, 2])
      const { body, headers, method, path } = at.b.last.options
      assert.deepStrictEqual([method, path, String(body)], ["POST", "/?x=1", "héllo"])
      assert.deepStrictEqual(headers, at.b.sent[0]!.options.headers)
      yield* advance(1_000)
      const [{ rows }] = yield* store.show("1") as never as Effect.Effect<[{ rows: Array<{ state: string }> }]>
      assert.deepStrictEqual(rows.map(({ state }) => state), ["delivered", "delivered"])
      assert.strictEqual(budget.state().used, 0)
    }))

  it.effect("is attempted less and less often while its backend is down", () =>
    Effect.gen(function*() {
      const { at, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      yield* deliver("1")
      const times: Array<number> = []
      for (let second = 0; second < 900; second += 1) {
        const before = at.b.sent.length
        yield* advance(1_000)
        if (at.b.sent.length > before) times.push(second)
      }
      const waits = times.map((time, place) => time - (times[place - 1] ?? 0))
      assert.isAbove(waits.length, 7)
      assert.isBelow(waits.length, 16)
      assert.isAbove(waits.at(-1)!, 100)
    }))

  it.effect(
    "of an hour drains at a limited rate, and fresh deliveries do not wait behind it",
    () =>
      Effect.gen(function*() {
        const { at, deliver, store } = yield* setUp()
        at.a.onDispatch = accept
        at.b.onDispatch = refuse
        // One delivery each six seconds for an hour.
        for (let n = 0; n < 600; n += 1) {
          assert.strictEqual(yield* deliver(`old-${n}`), "accepted")
          yield* advance(6_000 - 3, 1_000)
        }
        const triedInVain = at.b.sent.length
        // Each as it comes, and one of the backlog each 15 s.
        assert.isBelow(triedInVain, 600 + 280)
        assert.strictEqual((yield* store.backlogs).find(({ key }) => key === b.key)?.pending, 600)

        const arrived = new Map<string, number>()
        let time = 0
        at.b.onDispatch = (sent) => {
          arrived.set(guidOf(sent), time)
          accept(sent)
        }
        const perSecond: Array<number> = []
        const sentAt = new Map<string, number>()
        for (; time < 600 && arrived.size < 600 + sentAt.size || time < 20; time += 1) {
          const before = arrived.size
          if (time % 5 === 0) {
            sentAt.set(`fresh-${time}`, time)
            yield* deliver(`fresh-${time}`)
          }
          yield* advance(1_000)
          perSecond.push(arrived.size - before)
        }
        assert.strictEqual(arrived.size, 600 + sentAt.size, "all arrived")
        assert.isBelow(Math.max(...perSecond), 220)
        // It starts slowly, once the probe has shown that the backend is there, within its 15 s.
        const first = perSecond.findIndex((count) => count > 0)
        assert.isAtMost(first, 16)
        assert.isBelow(perSecond[first]! + perSecond[first + 1]!, 20)
        const waited = [...sentAt].map(([guid, since]) => arrived.get(guid)! - since)
        assert.isAtMost(Math.max(...waited), 17, waited.join())
        // Not one more once the breaker is closed.
        assert.isAtMost(Math.max(...waited.slice(4)), 0)
      }),
    60_000
  )

  it.effect("waits while the store is down, and goes on when it is back", () =>
    Effect.gen(function*() {
      const { at, database, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      yield* deliver("1")
      at.b.onDispatch = accept
      database.fail = true
      yield* advance(60_000)
      assert.strictEqual(at.b.sent.length, 1)
      database.fail = false
      yield* advance(30_000)
      assert.strictEqual(at.b.sent.length, 2)
    }))

  it.effect.each([-4, 4])(
    "is as old as the store says, whose clock is %d days ahead of the process",
    (days) =>
      Effect.gen(function*() {
        const { at, database, deliver } = yield* setUp({ maxDeliveryAge: Duration.hours(1) })
        database.ahead = days * 24 * 3_600_000
        at.a.onDispatch = accept
        at.b.onDispatch = refuse
        yield* deliver("1")
        yield* advance(3_000_000)
        assert.strictEqual(stateAt(database, b), "pending")
        yield* advance(900_000)
        assert.strictEqual(stateAt(database, b), "dead")
      })
  )

  it.effect("rests from the moment the process drains", () =>
    Effect.gen(function*() {
      const { at, deliver, readiness } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      yield* deliver("1")
      readiness.beginDraining()
      at.b.onDispatch = accept
      yield* advance(60_000)
      assert.strictEqual(at.b.sent.length, 1)
    }))

  it.effect("takes no more than half of its backend's permits", () =>
    Effect.gen(function*() {
      const { at, deliver } = yield* setUp({ backendConcurrency: 6 })
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      for (let n = 0; n < 40; n += 1) yield* deliver(String(n))
      at.b.onDispatch = accept
      // The probe closes the breaker; from then on the backend takes all and answers nothing.
      const inVain = at.b.sent.length
      for (let second = 0; second < 30 && at.b.sent.length === inVain; second += 1) yield* advance(1_000)
      const from = at.b.sent.length
      at.b.onDispatch = (sent) => void sent.start()
      yield* advance(10_000)
      assert.isAtMost(at.b.sent.length - from, 3)
      assert.isAtLeast(at.b.sent.length - from, 1)
      yield* deliver("fresh")
      assert.strictEqual(guidOf(at.b.last), "fresh")
    }))

  it.effect("goes to a backend that came too late for a first attempt: its memory was used up", () =>
    Effect.gen(function*() {
      const { at, budget, deliver } = yield* setUp({ bodyMemory: 1024 * 1024 })
      at.a.onDispatch = accept
      at.b.onDispatch = accept
      const hog = budget.open()
      hog.hold(1024 * 1024)
      assert.strictEqual(yield* deliver("1"), "accepted")
      assert.deepStrictEqual([at.a.sent.length, at.b.sent.length], [0, 0])
      hog.release()
      yield* advance(3_000)
      assert.deepStrictEqual([at.a.sent.length, at.b.sent.length], [1, 1])
    }))

  it.effect("goes on to other backends while a claim for one hangs, which is not interrupted", () =>
    Effect.gen(function*() {
      const { at, database, deliver } = yield* setUp()
      at.a.onDispatch = at.b.onDispatch = refuse
      for (let n = 0; n < 5; n += 1) yield* deliver(String(n))
      at.a.onDispatch = at.b.onDispatch = accept
      let began = 0
      let interrupted = 0
      database.beforeClaim = (key) =>
        key === b.key ? Effect.void : Effect.onInterrupt(
          Effect.suspend(() => {
            began += 1
            return Effect.never
          }),
          () => Effect.sync(() => interrupted += 1)
        )
      yield* advance(60_000)
      assert.strictEqual(new Set(at.b.sent.filter(({ ended }) => ended).map(guidOf)).size, 5)
      assert.strictEqual(at.b.sent.length, 10)
      assert.deepStrictEqual([began, interrupted], [1, 0])
    }))

  it.effect("is not kept out of the probe by a claim that has failed", () =>
    Effect.gen(function*() {
      const { at, database, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      for (let n = 0; n < 5; n += 1) yield* deliver(String(n))
      at.b.onDispatch = accept
      let claims = 0
      database.beforeClaim = () => {
        claims += 1
        return claims === 1 ? Effect.fail(new StoreUnavailable({ reason: "told to fail" })) : Effect.void
      }
      yield* advance(1_250)
      assert.deepStrictEqual([claims, at.b.sent.length], [1, 5])
      yield* advance(250)
      assert.deepStrictEqual([claims, at.b.sent.length], [2, 6])
    }))

  it.effect("is tried again later and later when there is no memory for it in time, and sent once there is", () =>
    Effect.gen(function*() {
      const { at, attemptsAt, budget, database, deliver } = yield* setUp({ bodyMemory: 1024 * 1024 })
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      yield* deliver("1")
      at.b.onDispatch = accept
      const hog = budget.open()
      hog.hold(1024 * 1024)
      // One may go beyond the budget; this one takes that place.
      const beyond = budget.open()
      beyond.wait(1, () => {})
      yield* advance(60_000)
      assert.strictEqual(at.b.sent.length, 1)
      const [, ...unsent] = attemptsAt(b)
      assert.isAtLeast(unsent.length, 3)
      assert.isBelow(unsent.length, 6)
      for (const attempt of unsent) {
        assert.deepInclude(attempt, { outcome: "unreachable", error: "no memory in time" })
      }
      hog.release()
      beyond.release()
      yield* advance(60_000)
      assert.strictEqual(at.b.sent.length, 2)
      assert.strictEqual(stateAt(database, b), "delivered")
    }))

  const unreadable = [
    ["its content", Effect.fail(new StoreUnavailable({ reason: "its headers can't be read", fault: "content" }))],
    ["it alone", Effect.fail(new StoreUnavailable({ reason: "it is corrupt" }))],
    ["a defect of ours", Effect.die(new Error("unexpected"))],
    ["a read that takes for ever", Effect.never]
  ] as const

  it.effect.each(unreadable)(
    "that can't be read because of %s is shown, backs off, and is dead in the end",
    ([, load]) =>
      Effect.gen(function*() {
        const { at, attemptsAt, budget, database, deliver, entries } = yield* setUp({
          maxDeliveryAge: Duration.minutes(10)
        })
        at.a.onDispatch = accept
        at.b.onDispatch = refuse
        yield* deliver("1")
        database.beforeLoad = load
        yield* advance(360_000)
        const attempts = attemptsAt(b).slice(1)
        assert.isAtLeast(attempts.length, 5)
        assert.isBelow(attempts.length, 12)
        for (const { error, outcome } of attempts) {
          assert.strictEqual(outcome, "unreachable")
          assert.match(error!, /can't be read/)
        }
        // It says nothing of the backend, and keeps nothing from the others.
        database.beforeLoad = Effect.void
        yield* deliver("2")
        assert.strictEqual(guidOf(at.b.last), "2")
        database.beforeLoad = load
        yield* advance(600_000)
        assert.strictEqual(stateAt(database, b), "dead")
        assert.strictEqual(at.b.sent.filter((sent) => guidOf(sent) === "1").length, 1)
        // The other delivery may be just being read.
        database.beforeLoad = Effect.void
        yield* advance(10_000)
        assert.strictEqual(budget.state().used, 0)
        const lines = entries.filter(({ message }) => message === "a stored delivery could not be sent")
        assert.isTrue(lines.some(({ fields }) => fields["given-up"] === true))
        assert.deepInclude(lines[0]!.fields, { backend: "b.test", outcome: "unreachable", tries: 2 })
      })
  )

  it.effect("has had no attempt when the store is away as it is read", () =>
    Effect.gen(function*() {
      const { at, attemptsAt, database, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      yield* deliver("1")
      at.b.onDispatch = accept
      let loads = 0
      database.beforeLoad = Effect.sync(() => {
        loads += 1
        database.fail = true
      })
      yield* advance(2_000)
      database.fail = false
      database.beforeLoad = Effect.void
      assert.strictEqual(loads, 1)
      yield* advance(15_000)
      assert.strictEqual(at.b.sent.length, 2)
      assert.deepStrictEqual(attemptsAt(b).map(({ outcome }) => outcome), ["unreachable", "delivered"])
    }))

  it.effect("is cancelled where the backend's filter has been narrowed since, and sent to the others", () =>
    Effect.gen(function*() {
      const { at, attemptsAt, database, store } = yield* setUp({
        backendRepositories: [{ key: a.key, url: a.url, values: ["org/*"] }]
      })
      at.a.onDispatch = at.b.onDispatch = accept
      const body = Buffer.from(`{"repository":{"full_name":"other/repo"}}`)
      const targets = [a, b].map(({ key, url }) => ({ key, url, held: true }))
      yield* store.write({ deliveries: [{ ...newDelivery({ body }), targets }], settlements: [] })
      yield* advance(3_000)
      assert.deepStrictEqual([stateAt(database, a), stateAt(database, b)], ["cancelled", "delivered"])
      assert.deepStrictEqual(attemptsAt(a), [])
      assert.lengthOf(at.a.sent, 0)
    }))

  it.effect("that a narrowed filter cancels keeps what is wanted waiting for seconds, not for its length", () =>
    Effect.gen(function*() {
      const { at, database, store } = yield* setUp(narrowed)
      at.a.onDispatch = accept
      yield* store.write({ deliveries: foreign(300), settlements: [] })
      yield* store.write({ deliveries: [wanted], settlements: [] })
      yield* advance(20_000)
      assert.deepStrictEqual(statesAt(database, a), { cancelled: 300, delivered: 1 })
      assert.lengthOf(at.a.sent, 1)
    }))

  it.effect("is dead at once, and shown so, when nothing is left of it that could be sent", () =>
    Effect.gen(function*() {
      const { at, attemptsAt, database, deliver } = yield* setUp()
      at.a.onDispatch = accept
      at.b.onDispatch = refuse
      yield* deliver("1")
      for (const delivery of database.deliveries.values()) delivery.content = undefined
      yield* advance(3_000)
      assert.strictEqual(stateAt(database, b), "dead")
      assert.strictEqual(attemptsAt(b).at(-1)!.error, "its body is not kept any more")
    }))
})
