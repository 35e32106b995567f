import { afterEach, assert, beforeEach, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { createServer } from "node:http"
import { GraceExceeded, untilShutDown } from "../src/Shutdown.ts"
import { parse } from "../src/domain/Backend.ts"
import { Body } from "../src/domain/Body.ts"
import { type CutOff, Spray } from "../src/forwarding/Spray.ts"
import { PublicServer } from "../src/http/PublicServer.ts"
import { Readiness } from "../src/http/Readiness.ts"
import { Log, LogEntries } from "../src/observability/logs/Logging.ts"
import { RefusalLog } from "../src/observability/logs/RefusalLog.ts"
import { Settings } from "../src/settings/Settings.ts"

const signals = ["SIGINT", "SIGTERM"] as const

const backend = Result.getOrThrow(parse("http://a.test", "static"))

const cutOffOf = (guid: string): CutOff => ({
  backend,
  delivery: {
    requestId: guid,
    guid,
    event: "push",
    method: "POST",
    target: "/",
    forwardedTarget: "/",
    headers: [],
    body: new Body([], 0)
  }
})

/** Serves with a listener and a spray that are idle when the test says so. */
const serving = Effect.fnUntraced(
  function*(options: { readonly delay?: string; readonly cutOff?: ReadonlyArray<string> } = {}) {
    const steps: Array<string> = []
    const step = (name: string) => Effect.sync(() => void steps.push(name))
    const serverIdle = yield* Latch.make()
    const sprayIdle = yield* Latch.make()
    let inFlight = 1
    const endSpray = Effect.suspend(() => {
      inFlight = 0
      return sprayIdle.open
    })
    const layer = Layer.mergeAll(
      Layer.succeed(
        PublicServer,
        PublicServer.of({
          server: createServer(),
          beginDraining: step("close connections after replies"),
          stopAccepting: step("stop accepting"),
          idle: serverIdle.await,
          closeConnections: step("close connections")
        })
      ),
      Layer.succeed(
        Spray,
        Spray.of({
          spray: () => () => {},
          begin: () => {},
          inFlight: () => inFlight,
          idle: sprayIdle.await,
          cutOff: Effect.suspend(() => Effect.as(step("cut off"), (options.cutOff ?? []).map(cutOffOf)))
        })
      ),
      Readiness.layer,
      RefusalLog.layer.pipe(Layer.provideMerge(Log.layerTest)),
      Settings.layerFrom({
        shutdownDelay: Duration.fromInputUnsafe((options.delay ?? "0 seconds") as Duration.Input),
        shutdownGrace: Duration.seconds(10)
      })
    )
    const context = yield* Layer.build(layer)
    const fiber = yield* Effect.forkDetach(Effect.provide(untilShutDown, context))
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        fiber.interruptUnsafe()
        yield* TestClock.adjust("1 minute")
        yield* Fiber.await(fiber)
      })
    )
    yield* TestClock.adjust(0)
    const { isDraining } = yield* Effect.provide(Readiness, context)
    const { entries } = yield* Effect.provide(LogEntries, context)
    return {
      steps,
      isDraining,
      serverIdle,
      endSpray,
      messages: () => entries.map(({ message }) => message),
      entries,
      /** As a signal does. */
      stop: Effect.andThen(Effect.sync(() => fiber.interruptUnsafe()), TestClock.adjust(0)),
      isRunning: () => fiber.pollUnsafe() === undefined,
      exit: Fiber.await(fiber)
    }
  }
)

describe("untilShutDown", () => {
  const listeners = new Map<string, ReadonlyArray<NodeJS.SignalsListener>>()
  const added = () => signals.map((signal) => process.listenerCount(signal) - (listeners.get(signal)?.length ?? 0))

  // It listens for the next signal until the process ends.
  beforeEach(() => signals.forEach((signal) => listeners.set(signal, process.listeners(signal))))
  afterEach(() => {
    for (const signal of signals) {
      for (const listener of process.listeners(signal)) {
        if (!listeners.get(signal)?.includes(listener)) process.off(signal, listener)
      }
    }
  })

  it.effect("does nothing until it is told to stop", () =>
    Effect.gen(function*() {
      const { isDraining, isRunning, messages, steps } = yield* serving()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([steps, messages(), isDraining(), isRunning()], [[], [], false, true])
    }))

  it.effect("says that it drains at once, and accepts for the delay", () =>
    Effect.gen(function*() {
      const { endSpray, entries, exit, isDraining, isRunning, serverIdle, steps, stop } = yield* serving({
        delay: "5 seconds"
      })
      yield* serverIdle.open
      yield* endSpray
      yield* stop
      assert.isTrue(isDraining())
      assert.deepStrictEqual(entries, [{ level: "info", message: "shutting down", fields: { deliveries: 0 } }])
      assert.deepStrictEqual(steps, ["close connections after replies"])
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(steps, ["close connections after replies"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(steps, ["close connections after replies", "stop accepting"])
      assert.isTrue(isRunning())
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(steps, ["close connections after replies", "stop accepting", "close connections"])
      assert.isTrue(Exit.hasInterrupts(yield* exit))
    }))

  it.effect("waits for every reply and every attempt, and ends as what it is: stopped by a signal", () =>
    Effect.gen(function*() {
      const { endSpray, exit, isRunning, messages, serverIdle, steps, stop } = yield* serving()
      yield* stop
      yield* TestClock.adjust("3 seconds")
      yield* serverIdle.open
      yield* TestClock.adjust("3 seconds")
      assert.isTrue(isRunning())
      assert.notInclude(steps, "close connections")
      yield* endSpray
      yield* TestClock.adjust(0)
      const ended = yield* exit
      assert.isTrue(Exit.isFailure(ended) && Cause.hasInterruptsOnly(ended.cause))
      assert.deepStrictEqual(messages(), ["shutting down", "stopped"])
      assert.notInclude(steps, "cut off")
    }))

  it.effect("cuts off what has not ended within the grace, and fails with the number of attempts", () =>
    Effect.gen(function*() {
      const { entries, exit, isRunning, messages, serverIdle, steps, stop } = yield* serving({
        cutOff: ["one", "two", "one"]
      })
      yield* serverIdle.open
      yield* stop
      // The grace counts from when the requests that were on their way have been read.
      yield* TestClock.adjust("10199 millis")
      assert.isTrue(isRunning())
      yield* TestClock.adjust("1 second")
      const ended = yield* exit
      const error = Exit.isFailure(ended) ? ended.cause.reasons.find(Cause.isFailReason)?.error : undefined
      assert.instanceOf(error, GraceExceeded)
      assert.strictEqual(error?.message, "the shutdown grace was over before every attempt had an outcome (3 cut off)")
      assert.deepStrictEqual(steps.slice(-2), ["cut off", "close connections"])
      assert.deepStrictEqual(entries.at(-1), {
        level: "error",
        message: "shutdown grace exceeded",
        fields: { grace: "10s", attempts: 3, deliveries: "one two" }
      })
      assert.notInclude(messages(), "stopped")
    }))

  it.effect("only closes the connections of senders that have not finished within the grace", () =>
    Effect.gen(function*() {
      const { endSpray, exit, messages, steps, stop } = yield* serving()
      yield* endSpray
      yield* stop
      yield* TestClock.adjust("12 seconds")
      const ended = yield* exit
      assert.isTrue(Exit.isFailure(ended) && Cause.hasInterruptsOnly(ended.cause))
      assert.include(steps, "close connections")
      assert.strictEqual(messages().at(-1), "stopped")
    }))

  it.effect("listens for the next signal only when the first has come", () =>
    Effect.gen(function*() {
      const { stop } = yield* serving()
      assert.deepStrictEqual(added(), [0, 0])
      yield* stop
      assert.deepStrictEqual(added(), [1, 1])
    }))
})
