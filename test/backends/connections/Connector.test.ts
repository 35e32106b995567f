import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { once } from "node:events"
import * as net from "node:net"
import { Worker } from "node:worker_threads"
import { make } from "../../../src/backends/connections/Connector.ts"
import { Timers } from "../../../src/runtime/Timers.ts"
import { listen } from "../../support/Backend.ts"

const alive = "127.0.0.1"
const silent = "127.0.0.2"
const dead = "127.0.0.3"

const timeout = 5_000

/** Accepts nothing before it is told to, and then ends each connection. */
const blockedListener = `
  const { parentPort, workerData } = require("node:worker_threads")
  const server = require("node:net").createServer((socket) => socket.on("error", () => {}).resume())
  server.listen({ host: "${silent}", port: workerData.port, backlog: 1 }, () => {
    parentPort.postMessage("listening")
    Atomics.wait(new Int32Array(workerData.released), 0, 0)
  })`

/** A port at which `alive` answers, `silent` does not before it is released, and `dead` refuses. */
const setUp = Effect.gen(function*() {
  const port = yield* listen(net.createServer())
  const released = new SharedArrayBuffer(4)
  const release = () => {
    Atomics.store(new Int32Array(released), 0, 1)
    Atomics.notify(new Int32Array(released), 0)
  }
  const worker = yield* Effect.acquireRelease(
    Effect.sync(() => new Worker(blockedListener, { eval: true, workerData: { port, released } })),
    (one) =>
      Effect.promise(() => {
        release()
        return one.terminate()
      })
  )
  yield* Effect.promise(() => once(worker, "message"))
  // The system accepts one more connection than the backlog says, and leaves what comes then without an answer.
  for (let n = 0; n < 2; n++) {
    const filling = yield* Effect.acquireRelease(
      Effect.sync(() => net.connect(port, silent).on("error", () => {})),
      (socket) => Effect.sync(() => socket.destroy())
    )
    yield* Effect.promise(() => once(filling, "connect"))
  }
  const timers = Context.get(yield* Layer.build(Timers.layerClock), Timers)
  return {
    release,
    /** A connector to a host with these addresses; it succeeds with the address that was connected to. */
    connectorTo: (addresses: ReadonlyArray<string>, check?: (address: string) => Error | undefined) => {
      const connect = make({
        timers,
        timeout,
        check,
        lookup: (_host, _options, answer) =>
          queueMicrotask(() => answer(null, addresses.map((address) => ({ address, family: net.isIP(address) }))))
      })
      return Effect.callback<string | undefined, Error>((resume) =>
        connect({ hostname: "pac.test", protocol: "http:", port: String(port) }, (error, socket) => {
          if (error !== null) return resume(Effect.fail(error))
          resume(Effect.succeed(socket.remoteAddress))
          socket.destroy()
        })
      )
    }
  }
})

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** Begins, and is waiting for an answer to its first attempt. */
const begin = <A, E>(connecting: Effect.Effect<A, E>) => Effect.tap(Effect.forkChild(connecting), () => turn)

describe("of the addresses of a host", () => {
  it.effect("one that is slow is reached although the one after it is dead", () =>
    Effect.gen(function*() {
      const { connectorTo, release } = yield* setUp
      const connecting = yield* begin(connectorTo([silent, dead]))
      yield* TestClock.adjust(timeout - 1)
      yield* turn
      release()
      expect(yield* Fiber.join(connecting)).toBe(silent)
    }))

  it.effect("the next one is tried beside one that is silent for 250 ms", () =>
    Effect.gen(function*() {
      const { connectorTo } = yield* setUp
      const connecting = yield* begin(connectorTo([silent, alive]))
      yield* TestClock.adjust(249)
      yield* turn
      expect(connecting.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust(1)
      expect(yield* Fiber.join(connecting)).toBe(alive)
    }))

  it.effect("the one that answered goes first for ten minutes", () =>
    Effect.gen(function*() {
      const { connectorTo } = yield* setUp
      const connect = connectorTo([silent, dead, alive])
      const first = yield* begin(connect)
      yield* TestClock.adjust(250)
      expect(yield* Fiber.join(first)).toBe(alive)
      expect(yield* connect).toBe(alive)
      yield* TestClock.adjust("10 minutes")
      const later = yield* begin(connect)
      yield* turn
      expect(later.pollUnsafe()).toBeUndefined()
      yield* TestClock.adjust(250)
      expect(yield* Fiber.join(later)).toBe(alive)
    }))

  it.effect("one that refuses is passed at once", () =>
    Effect.gen(function*() {
      const { connectorTo } = yield* setUp
      expect(yield* connectorTo([dead, "127.0.0.4", alive])).toBe(alive)
    }))

  it.effect("one at least has to answer: else it is the first one's error", () =>
    Effect.gen(function*() {
      const { connectorTo } = yield* setUp
      expect(yield* Effect.flip(connectorTo([dead, "127.0.0.4"]))).toMatchObject({
        code: "ECONNREFUSED",
        address: dead
      })
    }))

  it.effect("one has to answer in time", () =>
    Effect.gen(function*() {
      const { connectorTo } = yield* setUp
      const connecting = yield* begin(Effect.flip(connectorTo([silent, dead])))
      yield* TestClock.adjust(timeout)
      expect(yield* Fiber.join(connecting)).toMatchObject({ code: "UND_ERR_CONNECT_TIMEOUT" })
    }))

  it.effect("those of the two families take turns, and one that is refused refuses all", () =>
    Effect.gen(function*() {
      const { connectorTo } = yield* setUp
      const asked: Array<string> = []
      const notThere = new TypeError("not there")
      const refused = connectorTo(["::1", "::2", "::3", dead, alive], (address) => {
        asked.push(address)
        return address === alive ? notThere : undefined
      })
      expect(yield* Effect.flip(refused)).toBe(notThere)
      expect(asked).toEqual(["::1", dead, "::2", alive, "::3"])
    }))
})
