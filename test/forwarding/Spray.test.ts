import { afterEach, assert, describe, expect, it, vi } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { BackendPolicy } from "../../src/backends/Policy.ts"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { BackendConnections } from "../../src/backends/connections/Connections.ts"
import { Resolver } from "../../src/backends/connections/Resolver.ts"
import { parse } from "../../src/domain/Backend.ts"
import { Body } from "../../src/domain/Body.ts"
import type { Delivery } from "../../src/domain/Delivery.ts"
import { isSuccess, type Outcome } from "../../src/domain/Outcome.ts"
import { Forwarder } from "../../src/forwarding/Forwarder.ts"
import { Ledger, unwritten } from "../../src/forwarding/Ledger.ts"
import { Spray } from "../../src/forwarding/Spray.ts"
import { DeliveryLog } from "../../src/observability/logs/DeliveryLog.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { Metrics } from "../../src/observability/metrics/Metrics.ts"
import { MemoryBudget } from "../../src/runtime/MemoryBudget.ts"
import { OwnListeners } from "../../src/runtime/OwnListeners.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { TurnBudget } from "../../src/runtime/TurnBudget.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { scrape, withFreshMetrics } from "../support/Scrape.ts"
import { ScriptedConnections, type Sent } from "../support/ScriptedDispatcher.ts"
import { replyOf } from "../support/SprayReply.ts"

const KiB = 1024

const allBackends = ["a", "b", "c"].map((name) => Result.getOrThrow(parse(`http://${name}.test`, "static")))

const replyDeadline = 9_000
const forwardingTimeout = 15_000

/** A permit is handed on within a few turns of the event loop, not by a clock. */
const turn = Effect.repeat(
  Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve))),
  { times: 3 }
)

const turnsUntil = Effect.fnUntraced(function*(condition: () => boolean) {
  for (let n = 0; n < 10_000 && !condition(); n++) yield* turn
  expect(condition()).toBe(true)
})

const advance = (millis: number) => Effect.andThen(TestClock.adjust(millis), turn)

/** Timers on the `TestClock`, and how many of them are set. */
const countedTimers = () => {
  const count = { pending: 0 }
  const layer = Layer.effect(
    Timers,
    Effect.map(Timers, ({ after, now }) =>
      Timers.of({
        now,
        after: (delay, f) => {
          count.pending += 1
          let isPending = true
          const done = () => {
            if (isPending) count.pending -= 1
            isPending = false
          }
          const cancel = after(delay, () => {
            done()
            f()
          })
          return () => {
            done()
            cancel()
          }
        }
      }))
  )
  return { count, layer: Layer.provide(layer, Timers.layerClock) }
}

const setUp = Effect.fnUntraced(function*(
  backendCount: number,
  settings: Partial<Settings["Service"]> = {},
  ledger: Layer.Layer<Ledger> = Ledger.layerDirect,
  turns: Layer.Layer<TurnBudget> = TurnBudget.layerUnlimited
) {
  const connections = new ScriptedConnections()
  const counted = countedTimers()
  const services = yield* Layer.build(
    Spray.layer.pipe(
      Layer.provideMerge(Layer.mergeAll(Forwarder.layer, DeliveryLog.layer, MemoryBudget.layer, BackendRegistry.layer)),
      Layer.provideMerge(
        Layer.mergeAll(
          Layer.succeed(BackendConnections, connections.service),
          BackendPolicy.layer.pipe(Layer.provide(OwnListeners.layer))
        )
      ),
      Layer.provideMerge(Layer.mergeAll(Resolver.layerFrom(() => {}), Log.layerTest, Metrics.layer, counted.layer)),
      Layer.provideMerge(Layer.mergeAll(turns, ledger)),
      Layer.provideMerge(Settings.layerFrom({
        backends: allBackends.slice(0, backendCount),
        forwardingTimeout: Duration.millis(forwardingTimeout),
        ...settings
      }))
    )
  )
  const spray = Context.get(services, Spray)
  const budget = Context.get(services, MemoryBudget)
  const timers = Context.get(services, Timers)
  const { entries } = Context.get(services, LogEntries)
  /** As a request's handler does it, with a body of `bytes` that has been charged while it was read. */
  const start = (guid = "guid", bytes = 0) => {
    const reservation = budget.open()
    reservation.hold(bytes)
    const delivery: Delivery = {
      requestId: guid,
      guid,
      event: "push",
      method: "POST",
      target: "/proxy",
      forwardedTarget: "/",
      headers: ["X-GitHub-Delivery", guid],
      body: new Body([Buffer.from(guid)], guid.length)
    }
    return Effect.forkChild(replyOf(spray, delivery, reservation, timers.now() + replyDeadline), {
      startImmediately: true
    })
  }
  /** The outcomes that have been logged, in order, as `guid backend: outcome`. */
  const outcomes = () =>
    entries.map(({ fields }) => `${fields["delivery"]} ${fields["backend"]}: ${fields["outcome"]}`.replace(".test", ""))
  const [a, b, c] = allBackends.map((backend) => connections.to(backend)) as [Dispatcher, Dispatcher, Dispatcher]
  const pendingTimers = () => counted.count.pending
  return { a, b, budget, c, entries, outcomes, pendingTimers, services, spray, start, timers }
})

type Dispatcher = ReturnType<ScriptedConnections["to"]>

const guidOf = (sent: Sent) => (sent.options.headers as ReadonlyArray<string>)[1]!

const accept = (sent: Sent) => void sent.answer(202)

const withoutRetries = { forwardingRetries: 0 }

afterEach(() => void vi.restoreAllMocks())

describe("a reply", () => {
  it.effect("is proxied when every backend has the delivery", () =>
    Effect.gen(function*() {
      const { a, b, c, outcomes, start } = yield* setUp(3)
      const reply = yield* start()
      a.last.answer(202)
      b.last.answer(200)
      expect(reply.pollUnsafe()).toBeUndefined()
      c.last.answer(201)
      expect(yield* Fiber.join(reply)).toBe("proxied")
      expect(outcomes()).toEqual(["guid a: delivered", "guid b: delivered", "guid c: delivered"])
    }))

  it.effect("is proxied when a backend rejects the body, since sending it again would not help", () =>
    Effect.gen(function*() {
      const { a, b, start } = yield* setUp(2)
      const reply = yield* start()
      a.last.answer(400)
      b.last.answer(413)
      expect(yield* Fiber.join(reply)).toBe("proxied")
    }))

  it.effect("is proxied without any backend, and keeps nothing", () =>
    Effect.gen(function*() {
      const { budget, spray, start } = yield* setUp(0)
      expect(yield* Fiber.join(yield* start("guid", 5_000))).toBe("proxied")
      expect(budget.state().used).toBe(0)
      expect(spray.inFlight()).toBe(0)
      yield* spray.idle
    }))

  for (
    const [what, come] of Object.entries<(sent: Sent) => unknown>({
      "answers 500": (sent) => sent.answer(500),
      "redirects": (sent) => sent.answer(302),
      "can't be reached": (sent) => sent.fail("ECONNREFUSED"),
      "breaks off": (sent) => sent.start().fail("ECONNRESET")
    })
  ) {
    it.effect(`is failed when one backend ${what}, after the others have theirs`, () =>
      Effect.gen(function*() {
        const { a, b, c, start } = yield* setUp(3, withoutRetries)
        const reply = yield* start()
        come(b.last)
        a.last.answer(202)
        expect(reply.pollUnsafe()).toBeUndefined()
        c.last.answer(202)
        expect(yield* Fiber.join(reply)).toBe("failed")
      }))
  }

  it.effect("is accepted at the reply deadline, and the attempts go on", () =>
    Effect.gen(function*() {
      const { a, b, entries, outcomes, spray, start } = yield* setUp(2)
      const reply = yield* start()
      a.last.answer(202)
      b.last.start()
      yield* advance(replyDeadline - 1)
      expect(reply.pollUnsafe()).toBeUndefined()
      yield* advance(1)
      expect(yield* Fiber.join(reply)).toBe("accepted")
      expect(spray.inFlight()).toBe(1)
      yield* advance(1_000)
      expect(b.last.aborted).toBe(false)
      b.last.answer(202)
      expect(outcomes()).toEqual(["guid a: delivered", "guid b: delivered"])
      expect(entries.at(-1)!.fields["latency"]).toBe(10)
      expect(spray.inFlight()).toBe(0)
    }))

  it.effect("is waited for by a delivery that is in flight, and counted as such", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { a, start } = yield* setUp(1)
      yield* start()
      expect((yield* scrape).value("sprayproxy_deliveries_in_flight")).toBe(1)
      a.last.answer(202)
      expect((yield* scrape).value("sprayproxy_deliveries_in_flight")).toBe(0)
    })))

  it.effect("is accepted at once when it is already due, and the delivery still goes out", () =>
    Effect.gen(function*() {
      const { a, budget, spray, timers } = yield* setUp(1)
      yield* advance(1_000)
      const reservation = budget.open()
      const delivery = { guid: "late", headers: ["X-GitHub-Delivery", "late"], target: "/", forwardedTarget: "/" }
      const reply = yield* Effect.forkChild(
        replyOf(spray, { ...delivery, body: new Body([], 0) } as unknown as Delivery, reservation, timers.now() - 1),
        { startImmediately: true }
      )
      yield* advance(0)
      expect(reply.pollUnsafe()).toEqual(Exit.succeed("accepted"))
      expect(a.sent.map(guidOf)).toEqual(["late"])
    }))
})

describe("time", () => {
  it.effect("runs out for all attempts at once: one clock for waiting, answering and retries", () =>
    Effect.gen(function*() {
      const { a, b, c, entries, outcomes, spray, start } = yield* setUp(3, { backendConcurrency: 1 })
      const before = yield* start("before")
      a.last.answer(202)
      b.last.start()
      c.last.answer(202)
      yield* advance(1_000)
      yield* start("after")
      a.last.start()
      yield* advance(forwardingTimeout - 1_000)
      expect(yield* Fiber.join(before)).toBe("accepted")
      expect(outcomes().slice(2)).toEqual(["before b: timed out"])
      expect(b.sent.map(guidOf)).toEqual(["before", "after"])
      c.last.answer(503, { "retry-after": "60" })
      yield* advance(1_000)
      expect(outcomes().slice(3)).toEqual(["after c: failed", "after a: timed out", "after b: unreachable"])
      expect(entries.at(-1)!.fields["error"]).toBe("no connection in time")
      b.last.fail("UND_ERR_CONNECT_TIMEOUT")
      expect(spray.inFlight()).toBe(0)
    }))

  it.effect("is not waited out by a delivery that has ended, nor is a timer left behind", () =>
    Effect.gen(function*() {
      const { a, outcomes, pendingTimers, start } = yield* setUp(1)
      const reply = yield* start()
      expect(pendingTimers()).toBe(2)
      a.last.answer(202)
      expect(yield* Fiber.join(reply)).toBe("proxied")
      expect(pendingTimers()).toBe(0)
      yield* advance(2 * forwardingTimeout)
      expect(a.last.aborted).toBe(false)
      expect(outcomes()).toHaveLength(1)
    }))
})

describe("interruption of the caller", () => {
  it.effect("cancels no attempt", () =>
    Effect.gen(function*() {
      const { a, b, budget, outcomes, spray, start } = yield* setUp(2, { backendConcurrency: 1 })
      const others = yield* start("first")
      const reply = yield* start("second", 100)
      a.last.start()
      yield* Fiber.interrupt(reply)
      a.last.answer(202)
      b.last.answer(202)
      yield* turn
      expect(yield* Fiber.join(others)).toBe("proxied")
      expect([...a.sent, ...b.sent].map(guidOf)).toEqual(["first", "second", "first", "second"])
      expect([...a.sent, ...b.sent].some(({ aborted }) => aborted)).toBe(false)
      a.last.answer(202)
      b.last.answer(500)
      expect(outcomes().slice(2)).toEqual(["second a: delivered", "second b: failed"])
      expect(spray.inFlight()).toBe(0)
      expect(budget.state().used).toBe(0)
    }))

  it.effect("while a delivery waits for room doesn't lose it", () =>
    Effect.gen(function*() {
      const { a, budget, start } = yield* setUp(1, { bodyMemory: MiB })
      const full = budget.open()
      full.verified()
      full.hold(MiB)
      budget.open().wait(1, () => {})
      const reply = yield* start("patient")
      expect(a.sent).toHaveLength(0)
      const interruption = yield* Effect.forkChild(Fiber.interrupt(reply), { startImmediately: true })
      yield* turn
      expect(a.sent).toHaveLength(0)
      full.release()
      yield* Fiber.join(interruption)
      expect(a.sent.map(guidOf)).toEqual(["patient"])
      a.last.answer(202)
      expect(budget.state().used).toBe(1)
    }))
})

describe("nobody who waits for a reply any more", () => {
  const leaving = Effect.fnUntraced(function*(bodyMemory: number, isFull: boolean) {
    const { a, budget, spray, timers } = yield* setUp(1, { bodyMemory })
    if (isFull) {
      const full = budget.open()
      full.verified()
      full.hold(bodyMemory)
      budget.open().wait(1, () => {})
    }
    const told: Array<string> = []
    const delivery = { guid: "left", headers: ["X-GitHub-Delivery", "left"], target: "/", forwardedTarget: "/" }
    const leave = spray.spray(
      { ...delivery, body: new Body([], 0) } as unknown as Delivery,
      budget.open(),
      timers.now() + replyDeadline,
      { replied: (result) => told.push(result), ended: () => told.push("ended"), died: () => told.push("died") }
    )
    leave()
    return { a, told }
  })

  it.effect("is told so once, and the attempts go on", () =>
    Effect.gen(function*() {
      const { a, told } = yield* leaving(MiB, false)
      expect(told).toEqual(["gone"])
      yield* advance(replyDeadline)
      a.last.answer(202)
      expect(told).toEqual(["gone", "ended"])
    }))

  it.effect("hears all the same that nothing was attempted, when there is no memory in time", () =>
    Effect.gen(function*() {
      const { a, told } = yield* leaving(MiB, true)
      expect(told).toEqual([])
      yield* advance(replyDeadline)
      expect(told).toEqual(["ended", "overloaded"])
      expect(a.sent).toHaveLength(0)
    }))
})

const MiB = KiB * KiB

describe("memory", () => {
  it.effect("is charged for the body, 32 KiB, and 4 KiB for each backend", () =>
    Effect.gen(function*() {
      const { budget, start } = yield* setUp(3)
      yield* start("guid", 10_000)
      expect(budget.state().used).toBe(10_000 + 32 * KiB + 3 * 4 * KiB)
    }))

  it.effect("no longer counts as an unverified sender's", () =>
    Effect.gen(function*() {
      const { budget, start } = yield* setUp(1, { bodyMemory: 8 * MiB })
      yield* start("guid", 4 * MiB)
      expect(budget.open().hold(300 * KiB)).toBe(true)
    }))

  it.effect("is given back when the last attempt has been let go, not with the reply", () =>
    Effect.gen(function*() {
      const { a, b, budget, spray, start } = yield* setUp(2)
      a.letsGo = false
      const reply = yield* start("guid", 10_000)
      const { used } = budget.state()
      a.last.start()
      b.last.status(202)
      yield* advance(replyDeadline)
      expect(yield* Fiber.join(reply)).toBe("accepted")
      expect(budget.state().used).toBe(used)
      yield* advance(forwardingTimeout - replyDeadline)
      expect(a.last.aborted).toBe(true)
      expect(b.last.aborted).toBe(true)
      expect(budget.state().used).toBe(used)
      expect(spray.inFlight()).toBe(1)
      a.last.fail("UND_ERR_ABORTED")
      expect(budget.state().used).toBe(0)
      expect(spray.inFlight()).toBe(0)
    }))

  it.effect("that isn't there until the reply is due refuses the delivery, and no backend hears of it", () =>
    Effect.gen(function*() {
      const { a, budget, spray, start } = yield* setUp(1, { bodyMemory: MiB })
      const full = budget.open()
      full.verified()
      full.hold(MiB)
      budget.open().wait(1, () => {})
      const reply = yield* start("overloaded", 1_000)
      yield* advance(replyDeadline - 1)
      expect(reply.pollUnsafe()).toBeUndefined()
      yield* advance(1)
      expect(yield* Effect.flip(Fiber.join(reply))).toBe("overloaded")
      expect(a.sent).toHaveLength(0)
      expect(spray.inFlight()).toBe(0)
      expect(budget.state()).toMatchObject({ used: MiB + 1, waiting: 0 })
    }))

  it.effect("that is freed in time lets the delivery go on", () =>
    Effect.gen(function*() {
      const { a, budget, start } = yield* setUp(1, { bodyMemory: MiB })
      const full = budget.open()
      full.verified()
      full.hold(MiB)
      budget.open().wait(1, () => {})
      const reply = yield* start()
      yield* advance(replyDeadline - 1)
      full.release()
      a.last.answer(202)
      expect(yield* Fiber.join(reply)).toBe("proxied")
      yield* advance(1)
    }))
})

describe("the end of the process", () => {
  it.effect("waits until nothing is under way", () =>
    Effect.gen(function*() {
      const { a, spray, start } = yield* setUp(1)
      yield* spray.idle
      yield* start("first")
      yield* start("second")
      const idle = yield* Effect.forkChild(spray.idle, { startImmediately: true })
      a.sent[0]!.answer(202)
      yield* turn
      expect(idle.pollUnsafe()).toBeUndefined()
      a.sent[1]!.answer(202)
      yield* Fiber.join(idle)
    }))

  it.effect("can cut off what has no outcome yet", () =>
    Effect.gen(function*() {
      const { a, b, budget, entries, outcomes, spray, start } = yield* setUp(2, { backendConcurrency: 1 })
      const first = yield* start("first")
      const second = yield* start("second")
      a.last.answer(202)
      b.last.start()
      yield* turn
      a.last.start()
      expect((yield* spray.cutOff).map(({ backend, delivery }) => `${delivery.guid} ${backend.name}`)).toEqual([
        "first b.test",
        "second a.test",
        "second b.test"
      ])
      expect(yield* Fiber.join(first)).toBe("failed")
      expect(yield* Fiber.join(second)).toBe("failed")
      expect(outcomes().toSorted()).toEqual([
        "first a: delivered",
        "first b: timed out",
        "second a: timed out",
        "second b: unreachable"
      ])
      expect(entries[1]!.fields["error"]).toBe("cut off by the shutdown")
      expect(spray.inFlight()).toBe(0)
      expect(budget.state().used).toBe(0)
      expect(yield* spray.cutOff).toEqual([])
    }))
})

/** A ledger that has everything on disk, but owns no row of backend c's, and what it is told. */
const onDisk = (keeps = true) => {
  const told: Array<string> = []
  const layer = Layer.succeed(
    Ledger,
    Ledger.of({
      unmatched: () => {},
      record: ({ guid }, backends, done) =>
        done({
          backends: backends.slice(0, 2),
          isDurable: true,
          lateReply: "accepted",
          settled: (backend, { outcome }) => {
            told.push(`${guid} ${backend.name}: ${outcome}`)
            return keeps
          },
          abandoned: () => void told.push(`${guid} abandoned`)
        })
    })
  )
  return { layer, told }
}

/** Turns that come when they are asked for. */
const heldTurns = () => {
  const waiting: Array<() => void> = []
  const next = () => waiting.shift()!()
  const layer = Layer.succeed(
    TurnBudget,
    TurnBudget.of({
      isOpen: () => false,
      run: (work) => void waiting.push(work),
      runAll: () => {
        while (waiting.length > 0) next()
      }
    })
  )
  return { layer, next }
}

describe("many deliveries that wait for their turn", () => {
  const crowd = Effect.fnUntraced(function*(ledger: Layer.Layer<Ledger>) {
    const turns = heldTurns()
    const services = yield* setUp(1, withoutRetries, ledger, turns.layer)
    services.a.onDispatch = (sent) => void sent.start()
    const replies = yield* Effect.forEach(range(0, 300), (n) => services.start(String(n)))
    turns.next()
    return { ...services, replies, turns }
  })

  it.effect("are left for later before the shutdown that cuts them off goes on, if they are on disk", () =>
    Effect.gen(function*() {
      const { layer, told } = onDisk()
      const { a, budget, spray } = yield* crowd(layer)
      expect(yield* spray.cutOff).toEqual([])
      expect(a.sent.map(guidOf)).toEqual(["0"])
      expect(told).toEqual([...range(1, 300).map((n) => `${n} abandoned`), "0 a.test: timed out"])
      expect(budget.state().used).toBe(0)
      yield* spray.idle
    }))

  it.effect("are all refused before the shutdown goes on, if they are not on disk", () =>
    Effect.gen(function*() {
      const { a, budget, replies, spray } = yield* crowd(Ledger.layerDirect)
      expect((yield* spray.cutOff).map(({ delivery }) => delivery.guid)).toEqual(["0"])
      expect(replies.slice(1).map((reply) => reply.pollUnsafe())).toEqual(
        range(1, 300).map(() => Exit.fail("overloaded"))
      )
      expect(a.sent.map(guidOf)).toEqual(["0"])
      expect(budget.state().used).toBe(0)
      yield* spray.idle
    }))

  it.effect("are waited for by a shutdown that has time", () =>
    Effect.gen(function*() {
      const { layer, told } = onDisk()
      const { a, replies, spray, turns } = yield* crowd(layer)
      const idle = yield* Effect.forkChild(spray.idle, { startImmediately: true })
      a.last.answer(202)
      yield* turn
      expect(idle.pollUnsafe()).toBeUndefined()
      a.onDispatch = accept
      for (let n = 1; n < 300; n++) turns.next()
      yield* Fiber.join(idle)
      for (const reply of replies) expect(yield* Fiber.join(reply)).toBe("accepted")
      expect(told).toEqual(range(0, 300).map((n) => `${n} a.test: delivered`))
    }))
})

describe("a delivery that the store has not taken", () => {
  const notOnDisk = Layer.succeed(
    Ledger,
    Ledger.of({
      unmatched: () => {},
      record: (_delivery, backends, done) => done({ ...unwritten(backends), lateReply: "forwarding" })
    })
  )

  it.effect("is not answered with the word that promises it, when the reply is due before the outcomes are known", () =>
    Effect.gen(function*() {
      const { start } = yield* setUp(1, withoutRetries, notOnDisk)
      const reply = yield* start()
      yield* TestClock.adjust("9 seconds")
      expect(yield* Fiber.join(reply)).toBe("forwarding")
    }))
})

describe("a ledger that answers later", () => {
  it.effect.each([true, false])(
    "is not harmed by a defect, and its delivery keeps no memory: on disk %j",
    (isDurable) =>
      Effect.gen(function*() {
        const answers: Array<() => void> = []
        const later = Layer.succeed(
          Ledger,
          Ledger.of({
            unmatched: () => {},
            record: (_delivery, backends, done) => {
              const entry = {
                ...unwritten(backends),
                isDurable,
                get backends(): typeof backends {
                  throw new Error("a defect")
                }
              }
              answers.push(() => done(entry))
            }
          })
        )
        const { budget, spray, start } = yield* setUp(1, withoutRetries, later)
        const reply = yield* start("guid", KiB)
        for (const answer of answers) answer()
        expect(Exit.hasDies(yield* Fiber.await(reply))).toBe(true)
        expect(budget.state().used).toBe(0)
        expect(spray.inFlight()).toBe(0)
      })
  )
})

describe("a delivery that is on disk", () => {
  it.effect("is answered at once, and goes to the backends that the ledger names", () =>
    Effect.gen(function*() {
      const { layer, told } = onDisk()
      const { a, b, budget, c, spray, start } = yield* setUp(3, withoutRetries, layer)
      const reply = yield* start()
      expect(yield* Fiber.join(reply)).toBe("accepted")
      expect([a, b, c].map(({ sent }) => sent.length)).toEqual([1, 1, 0])
      expect(spray.inFlight()).toBe(1)
      a.last.answer(202)
      b.last.answer(500)
      expect(told).toEqual(["guid a.test: delivered", "guid b.test: failed"])
      expect(spray.inFlight()).toBe(0)
      expect(budget.state().used).toBe(0)
    }))

  it.effect("is left for later where there is no memory for its attempts", () =>
    Effect.gen(function*() {
      const { layer, told } = onDisk()
      const { a, budget, spray, start } = yield* setUp(1, { bodyMemory: 1024 * 1024 }, layer)
      a.onDispatch = (sent) => void sent.start()
      yield* start("first", 900_000)
      const reply = yield* start("second", 200_000)
      expect(yield* Fiber.join(reply)).toBe("accepted")
      expect(told).toEqual(["second abandoned"])
      expect(a.sent.map(guidOf)).toEqual(["first"])
      expect(spray.inFlight()).toBe(1)
      expect(budget.state().used).toBeLessThan(1024 * 1024)
    }))

  it.effect("is not lost when its attempts are cut off", () =>
    Effect.gen(function*() {
      const { layer, told } = onDisk()
      const { a, spray, start } = yield* setUp(1, withoutRetries, layer)
      a.onDispatch = (sent) => void sent.start()
      yield* start()
      expect(yield* spray.cutOff).toEqual([])
      expect(told).toEqual(["guid a.test: timed out"])
    }))

  it.effect("counts among the lost when nobody will send it again", () =>
    Effect.gen(function*() {
      const { layer } = onDisk(false)
      const { a, spray, start } = yield* setUp(1, withoutRetries, layer)
      a.onDispatch = (sent) => void sent.start()
      yield* start()
      expect((yield* spray.cutOff).map(({ delivery }) => delivery.guid)).toEqual(["guid"])
    }))
})

describe("the registry", () => {
  it.effect("is told how the last attempt on each backend ended", () =>
    Effect.gen(function*() {
      const { a, b, services, start } = yield* setUp(2)
      vi.spyOn(Date, "now").mockReturnValue(1_000_000)
      yield* start()
      a.last.answer(202)
      b.last.answer(404)
      const listed = yield* Context.get(services, BackendRegistry).list
      expect(listed.map(({ lastOutcome, lastOutcomeAt }) => [lastOutcome, lastOutcomeAt])).toEqual([
        ["delivered", 1_000_000],
        ["failed", 1_000_000]
      ])
    }))

  it.effect("decides at the start of a delivery who gets it", () =>
    Effect.gen(function*() {
      const { a, b, c, services, start } = yield* setUp(1, { dynamicBackendAllow: ["*"] })
      const registry = Context.get(services, BackendRegistry)
      const reply = yield* start("before")
      const registering = yield* Effect.forkChild(registry.register({ url: "http://b.test" }))
      yield* advance(2_000)
      yield* Fiber.join(registering)
      a.last.answer(202)
      expect(yield* Fiber.join(reply)).toBe("proxied")
      yield* start("after")
      expect([a, b, c].map(({ sent }) => sent.map(guidOf))).toEqual([["before", "after"], ["after"], []])
    }))
})

/** The deliveries of which backend b was declared unreachable. */
const gaveWay = (outcomes: ReadonlyArray<string>) =>
  outcomes.filter((line) => line.endsWith("b: unreachable")).map((line) => Number(line.split(" ")[0]))

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => from + at)

describe("a backend for which deliveries wait alone", () => {
  it.effect("gives way beyond 500 of them: the oldest that wait for a permit end unreachable", () =>
    Effect.gen(function*() {
      const { a, b, entries, outcomes, start } = yield* setUp(2, { backendConcurrency: 2 })
      a.onDispatch = accept
      b.onDispatch = (sent) => void sent.start()
      const replies = yield* Effect.forEach(range(0, 500), (n) => start(String(n)))
      yield* advance(1_000)
      expect(gaveWay(outcomes())).toEqual([])
      yield* start("500")
      expect(gaveWay(outcomes())).toEqual([2])
      expect(yield* Fiber.join(replies[2]!)).toBe("failed")
      expect(entries.at(-1)!.fields["error"]).toContain("gave way")
      yield* Effect.forEach(range(501, 511), (n) => start(String(n)))
      expect(gaveWay(outcomes())).toEqual(range(2, 13))
      expect(b.sent.map(guidOf)).toEqual(["0", "1"])
      b.sent[0]!.answer(202)
      yield* turn
      expect(guidOf(b.last)).toBe("13")
      yield* start("511")
      expect(gaveWay(outcomes())).toEqual(range(2, 13))
    }))

  it.effect("gives way although no delivery comes any more", () =>
    Effect.gen(function*() {
      const { a, b, outcomes, start } = yield* setUp(2, { backendConcurrency: 2 })
      a.onDispatch = accept
      b.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(0, 510), (n) => start(String(n)))
      expect(gaveWay(outcomes())).toEqual([])
      yield* advance(1_000)
      expect(gaveWay(outcomes())).toEqual(range(2, 12))
    }))

  it.effect("gives way too when another one hangs with it", () =>
    Effect.gen(function*() {
      const { a, b, c, outcomes, start } = yield* setUp(3, { backendConcurrency: 1 })
      a.onDispatch = accept
      for (const hanging of [b, c]) hanging.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(0, 500), (n) => start(String(n)))
      yield* advance(1_000)
      yield* start("500")
      expect(outcomes().filter((line) => line.endsWith("unreachable"))).toEqual([
        "1 b: unreachable",
        "1 c: unreachable"
      ])
    }))

  it.effect("gives way beyond a quarter of the memory", () =>
    Effect.gen(function*() {
      const { a, b, outcomes, start } = yield* setUp(2, { backendConcurrency: 1, bodyMemory: 4 * MiB })
      a.onDispatch = accept
      b.onDispatch = (sent) => void sent.start()
      // Eight of them make a MiB.
      const bytes = 88 * KiB
      yield* Effect.forEach(range(0, 8), (n) => start(String(n), bytes))
      yield* advance(1_000)
      yield* start("8", bytes)
      expect(gaveWay(outcomes())).toEqual([1])
      yield* start("9", bytes)
      expect(gaveWay(outcomes())).toEqual([1, 2])
    }))

  it.effect("sacrifices none that has waited alone for less than a second: a burst drains", () =>
    Effect.gen(function*() {
      const { a, b, outcomes, start } = yield* setUp(2, { backendConcurrency: 1 })
      a.onDispatch = accept
      b.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(0, 3), (n) => start(String(n)))
      yield* advance(999)
      yield* Effect.forEach(range(3, 700), (n) => start(String(n)))
      expect(gaveWay(outcomes())).toEqual([])
      yield* advance(1)
      yield* start("700")
      expect(gaveWay(outcomes())).toEqual([1, 2])
      b.onDispatch = accept
      b.last.answer(202)
      yield* turnsUntil(() => outcomes().filter((line) => line.endsWith("b: delivered")).length === 699)
    }))

  it.effect("counts a second of waiting from when it is alone", () =>
    Effect.gen(function*() {
      const { a, b, outcomes, start } = yield* setUp(2, { backendConcurrency: 600 })
      b.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(0, 650), (n) => start(String(n)))
      yield* advance(5_000)
      a.onDispatch = accept
      for (const sent of a.sent.slice()) sent.answer(202)
      yield* turn
      yield* advance(999)
      yield* start("650")
      expect(gaveWay(outcomes())).toEqual([])
      yield* advance(1)
      yield* start("651")
      expect(gaveWay(outcomes())).toEqual(range(600, 650))
    }))

  it.effect("never gives way when it is the only backend", () =>
    Effect.gen(function*() {
      const { a, outcomes, start } = yield* setUp(1, { backendConcurrency: 1 })
      a.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(0, 700), (n) => start(String(n)))
      yield* advance(5_000)
      yield* start("700")
      expect(outcomes()).toEqual([])
      a.onDispatch = accept
      a.last.answer(202)
      yield* turnsUntil(() => outcomes().length === 701)
    }))

  it.effect("stops giving way when it answers again", () =>
    Effect.gen(function*() {
      const { a, b, budget, outcomes, start } = yield* setUp(2, { backendConcurrency: 1 })
      a.onDispatch = accept
      b.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(0, 500), (n) => start(String(n)))
      yield* advance(1_000)
      b.onDispatch = accept
      b.last.answer(202)
      yield* turnsUntil(() => budget.state().used === 0)
      b.onDispatch = (sent) => void sent.start()
      yield* Effect.forEach(range(500, 1_000), (n) => start(String(n)))
      yield* advance(1_000)
      expect(gaveWay(outcomes())).toEqual([])
    }))
})

const Step = Schema.Literals([
  "start",
  "informational",
  "202",
  "404",
  "503",
  "a little",
  "a lot",
  "end",
  "error",
  "wait",
  "wait long"
])

const Script = Schema.Struct({
  steps: Schema.Array(Step).check(Schema.isMaxLength(8)),
  throwsAtOnce: Schema.Boolean,
  letsGo: Schema.Boolean
})

/** Plays a script as far as it makes sense: undici tells of no data without a status line, and of nothing after the end. */
class Play {
  readonly sent: Sent
  readonly script: typeof Script.Type
  #at = 0
  #hasStatus = false

  constructor(sent: Sent, script: typeof Script.Type) {
    this.sent = sent
    this.script = script
  }

  step(): void {
    const step = this.script.steps[this.#at]
    this.#at += 1
    if (step === undefined || this.sent.ended || this.sent.aborted) return
    if (step === "start" && !this.sent.started) this.sent.start()
    if (step === "informational" && this.sent.started && !this.#hasStatus) this.sent.status(103)
    if (step === "202" || step === "404" || step === "503") this.#status(Number(step))
    if (step === "a little" && this.#hasStatus) this.sent.data("x".repeat(700))
    if (step === "a lot" && this.#hasStatus) this.sent.data(Buffer.alloc(40 * KiB))
    if (step === "end" && this.#hasStatus) this.sent.end()
    if (step === "error") this.sent.fail("ECONNRESET")
  }

  #status(code: number): void {
    if (this.#hasStatus) return
    if (!this.sent.started) this.sent.start()
    if (this.sent.aborted) return
    this.#hasStatus = true
    this.sent.status(code)
  }

  /** Does what undici does in the end: it ends aborted requests, and gives up connecting. */
  letGo(): void {
    if (this.sent.ended) return
    assert.isTrue(this.sent.aborted || !this.sent.started, "a request was left to itself")
    this.sent.fail("UND_ERR_ABORTED")
  }
}

describe("whatever backends do", () => {
  it.effect.prop(
    "every attempt settles once and gives its permit and memory back",
    {
      scripts: Arbitrary.array(Arbitrary.schema(Script), { minLength: 1, maxLength: 12 }),
      backendCount: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
      deliveries: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 6 })),
      concurrency: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 }))
    },
    ({ backendCount, concurrency, deliveries, scripts }) =>
      Effect.gen(function*() {
        const { a, b, budget, c, entries, outcomes, pendingTimers, spray, start, timers } = yield* setUp(backendCount, {
          backendConcurrency: concurrency,
          bodyMemory: 4 * MiB
        })
        const dispatchers = [a, b, c].slice(0, backendCount)
        const plays: Array<Play> = []
        for (const dispatcher of dispatchers) {
          dispatcher.onDispatch = (sent) => {
            const play = new Play(sent, scripts[plays.length % scripts.length]!)
            const isActive = (other: Play) => !other.sent.ended && dispatcher.sent.includes(other.sent)
            assert.isBelow(plays.filter(isActive).length, concurrency, "more requests than permits")
            if (play.script.throwsAtOnce) {
              sent.ended = true
              throw new Error("not taken")
            }
            plays.push(play)
          }
          // Read when a request comes, so this is the next one's.
          Object.defineProperty(dispatcher, "letsGo", {
            get: () => scripts[plays.length % scripts.length]!.letsGo
          })
        }
        const replies: Array<Fiber.Fiber<string, "overloaded">> = []
        for (let n = 0; n < deliveries; n++) {
          replies.push(yield* start(String(n), n * 1_000))
          for (const play of plays.slice()) play.step()
        }
        const end = timers.now() + forwardingTimeout
        while (timers.now() < end) {
          const before = plays.length
          for (const play of plays.slice()) play.step()
          yield* turn
          if (plays.length === before) yield* advance(500)
        }
        for (let at = 0; at < plays.length; at++) {
          plays[at]!.step()
          plays[at]!.letGo()
          yield* turn
        }
        const expected = dispatchers.flatMap((_, at) =>
          Array.from({ length: deliveries }, (__, n) => `${n} ${"abc"[at]}`)
        )
        expect(outcomes().map((line) => line.split(":")[0]).toSorted()).toEqual(expected.toSorted())
        for (const [n, reply] of replies.entries()) {
          const own = entries.filter(({ fields }) => fields["delivery"] === String(n))
          const all = own.every(({ fields }) => isSuccess(fields["outcome"] as Outcome)) ? "proxied" : "failed"
          expect([all, "accepted"]).toContain(yield* Fiber.join(reply))
        }
        expect(spray.inFlight()).toBe(0)
        expect(budget.state()).toMatchObject({ used: 0, waiting: 0 })
        expect(pendingTimers()).toBe(0)
        for (const dispatcher of dispatchers) {
          dispatcher.onDispatch = () => {}
          dispatcher.sent.length = 0
        }
        for (let n = 0; n <= concurrency; n++) yield* start("permits")
        expect(dispatchers.map(({ sent }) => sent.length)).toEqual(dispatchers.map(() => concurrency))
      }),
    { arbitrary: { runs: 150 } }
  )
})
