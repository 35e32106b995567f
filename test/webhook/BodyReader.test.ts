import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as Http from "node:http"
import { PassThrough } from "node:stream"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { Body } from "../../src/domain/Body.ts"
import { make, MemoryBudget, type Reservation } from "../../src/runtime/MemoryBudget.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { type BodyFailure, BodyReader } from "../../src/webhook/BodyReader.ts"
import { listen } from "../support/Backend.ts"
import { openConnection } from "../support/RawConnection.ts"

const KiB = 1024
const MiB = 1024 * KiB

const TestLayer = (options: { readonly capacity?: number; readonly maxRequestSize?: number } = {}) =>
  BodyReader.layer.pipe(Layer.provideMerge([
    Settings.layerFrom(options.maxRequestSize === undefined ? {} : { maxRequestSize: options.maxRequestSize }),
    Layer.sync(MemoryBudget, () => make(options.capacity ?? 96 * MiB)),
    Timers.layerClock
  ]))

const bytesOf = (body: Body): Buffer => {
  const dispatched = body.toDispatch()
  return Buffer.isBuffer(dispatched) ? dispatched : Buffer.concat([...dispatched])
}

interface ReceivedBody {
  readonly body: Body
  readonly reservation: Reservation
}

/** Reads as a reception does: with memory of its own, which it gives back unless the body is here. */
const read = Effect.fnUntraced(
  function*(request: Http.IncomingMessage, deadline: number, onChunk: (chunk: Buffer) => void) {
    const reader = yield* BodyReader
    const budget = yield* MemoryBudget
    return yield* Effect.callback<ReceivedBody, BodyFailure>((resume) => {
      const reservation = budget.open()
      const stop = reader.read(request, reservation, deadline, {
        arrived: onChunk,
        received: (body) => resume(Effect.succeed({ body, reservation })),
        failed: (failure) => {
          reservation.release()
          resume(Effect.fail(failure))
        }
      })
      return Effect.sync(() => {
        stop()
        reservation.release()
      })
    })
  }
)

/** A sender whose request is being read, with a deadline that is `deadline` milliseconds away. */
const startReading = Effect.fnUntraced(function*(deadline = 9_000) {
  const timers = yield* Timers
  const request = new PassThrough({ highWaterMark: 64 * MiB })
  const chunks: Array<Buffer> = []
  let onReceived: (() => void) | undefined
  const reading = yield* Effect.forkChild(
    read(request as unknown as Http.IncomingMessage, timers.now() + deadline, (chunk) => {
      chunks.push(chunk)
      onReceived?.()
    }),
    { startImmediately: true }
  )
  return {
    request,
    chunks,
    reading,
    /** Resolves when the reader has taken the bytes. */
    send: (bytes: number | Buffer) =>
      Effect.promise(() => {
        const received = new Promise<void>((resolve) => onReceived = resolve)
        request.write(typeof bytes === "number" ? Buffer.alloc(bytes) : bytes)
        return received
      }),
    /** Sends what stays unread, for the reader waits for memory. */
    sendUnread: (bytes: number) => request.write(Buffer.alloc(bytes)),
    end: (): Effect.Effect<ReceivedBody, unknown> =>
      Effect.andThen(Effect.sync(() => request.end()), Fiber.join(reading))
  }
})

const used = Effect.map(MemoryBudget, (budget) => budget.state().used)
const waiting = Effect.map(MemoryBudget, (budget) => budget.state().waiting)

/** Takes all memory, and the place of the one who may go beyond the budget; `giveBack` ends that. */
const fillMemory = Effect.gen(function*() {
  const budget = yield* MemoryBudget
  const held = budget.open()
  held.verified()
  held.hold(budget.state().capacity - budget.state().used)
  const beyond = budget.open()
  beyond.wait(1, () => beyond.hold(0))
  const giveBack = Effect.sync(() => {
    held.release()
    beyond.release()
  })
  return { giveBack }
})

describe("BodyReader", () => {
  it.effect.prop(
    "hands each chunk on as it arrives, keeps the whole, and charges what it keeps",
    {
      sizes: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 70_000 }))), {
        maxLength: 6
      })
    },
    ({ sizes }) =>
      Effect.gen(function*() {
        const sender = yield* startReading()
        const sent = sizes.map((size, i) => Buffer.alloc(size, i + 1))
        for (const chunk of sent) yield* sender.send(chunk)
        const { body, reservation } = yield* sender.end()
        assert.isTrue(Buffer.concat(sent).equals(bytesOf(body)))
        assert.isTrue(Buffer.concat(sent).equals(Buffer.concat(sender.chunks)))
        assert.strictEqual(body.length, Buffer.concat(sent).length)
        assert.strictEqual(reservation.bytes, body.length)
        assert.strictEqual(yield* used, body.length)
        reservation.release()
        assert.strictEqual(yield* used, 0)
      }).pipe(Effect.provide(TestLayer())),
    { arbitrary: { runs: 50 } }
  )

  it.effect("takes a body of exactly the cap", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(600)
      yield* sender.send(400)
      assert.strictEqual((yield* sender.end()).body.length, 1_000)
    }).pipe(Effect.provide(TestLayer({ maxRequestSize: 1_000 }))))

  it.effect("drops a body that is one byte over the cap, with its memory, and does not hash that byte", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(600)
      sender.sendUnread(401)
      const error = yield* Effect.flip(Fiber.join(sender.reading))
      assert.strictEqual(error, "body too large")
      assert.strictEqual(Buffer.concat(sender.chunks).length, 600)
      assert.strictEqual(yield* used, 0)
    }).pipe(Effect.provide(TestLayer({ maxRequestSize: 1_000 }))))

  it.effect("lets go of the bytes themselves when it drops a body, though the request lives on", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(MiB)
      const chunk = new WeakRef(sender.chunks.pop()!)
      sender.sendUnread(1)
      yield* Effect.flip(Fiber.join(sender.reading))
      yield* Effect.promise(() => collectGarbage(() => chunk.deref() === undefined))
      assert.isUndefined(chunk.deref())
      assert.isFalse(sender.request.destroyed)
    }).pipe(Effect.provide(TestLayer({ maxRequestSize: MiB }))))
})

describe("a sender's pace", () => {
  it.effect("may be 64 KiB/s", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      for (let second = 0; second < 25; second++) {
        yield* sender.send(64 * KiB)
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual((yield* sender.end()).body.length, 25 * 64 * KiB)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("may not be less over 5 s", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      for (let second = 0; second < 5; second++) {
        yield* sender.send(second === 0 ? 64 * KiB - 1 : 64 * KiB)
        assert.isUndefined(sender.reading.pollUnsafe())
        yield* TestClock.adjust("1 second")
      }
      const error = yield* Effect.flip(Fiber.join(sender.reading))
      assert.strictEqual(error, "sender too slow")
      assert.strictEqual(yield* used, 0)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("counts for each 5 s anew: nothing is saved up", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(10 * MiB)
      yield* TestClock.adjust("9 seconds")
      assert.isUndefined(sender.reading.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "sender too slow")
    }).pipe(Effect.provide(TestLayer())))

  it.effect("is cut when a sender falls silent after the head", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(sender.reading.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "sender too slow")
    }).pipe(Effect.provide(TestLayer())))

  it.effect("may not make the whole take more than 30 s", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      for (let second = 0; second < 30; second++) {
        yield* sender.send(64 * KiB)
        yield* TestClock.adjust("1 second")
      }
      assert.isUndefined(sender.reading.pollUnsafe())
      yield* sender.send(64 * KiB)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "sender too slow")
      assert.strictEqual(yield* used, 0)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("does not count the time in which we wait for memory", () =>
    Effect.gen(function*() {
      const sender = yield* startReading(60_000)
      for (let second = 0; second < 4; second++) {
        yield* sender.send(64 * KiB)
        yield* TestClock.adjust("1 second")
      }
      const { giveBack } = yield* fillMemory
      yield* sender.send(64 * KiB)
      assert.strictEqual(yield* waiting, 1)
      yield* TestClock.adjust("50 seconds")
      yield* giveBack
      yield* TestClock.adjust("1 second")
      assert.isUndefined(sender.reading.pollUnsafe())
      yield* TestClock.adjust("4 seconds")
      yield* sender.send(64 * KiB)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "sender too slow")
    }).pipe(Effect.provide(TestLayer({ capacity: 8 * MiB }))))
})

describe("waiting for memory", () => {
  it.effect("leaves the body unread, and goes on where it was when there is room", () =>
    Effect.gen(function*() {
      const { giveBack } = yield* fillMemory
      const sender = yield* startReading()
      assert.strictEqual(yield* waiting, 0)
      yield* sender.send(Buffer.from("one"))
      assert.strictEqual(yield* waiting, 1)
      assert.isTrue(sender.request.isPaused())
      sender.request.write("two")
      yield* giveBack
      assert.strictEqual(yield* waiting, 0)
      assert.strictEqual(bytesOf((yield* sender.end()).body).toString(), "onetwo")
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))

  it.effect("reads nothing where the budget is exceeded already", () =>
    Effect.gen(function*() {
      const { giveBack } = yield* fillMemory
      const budget = yield* MemoryBudget
      const over = budget.open()
      over.hold(1)
      const sender = yield* startReading()
      assert.strictEqual(yield* waiting, 1)
      assert.isTrue(sender.request.isPaused())
      over.release()
      yield* giveBack
      yield* sender.send(Buffer.from("body"))
      assert.strictEqual(bytesOf((yield* sender.end()).body).toString(), "body")
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))

  it.effect("is not waited for behind a thousand others: they could not all be served in time", () =>
    Effect.gen(function*() {
      const { giveBack } = yield* fillMemory
      const budget = yield* MemoryBudget
      const over = budget.open()
      over.hold(1)
      const senders = yield* Effect.forEach(Array.from({ length: 1_000 }), () => startReading())
      assert.strictEqual(yield* waiting, 1_000)
      const late = yield* startReading()
      assert.strictEqual(yield* Effect.flip(Fiber.join(late.reading)), "overloaded")
      assert.strictEqual(yield* waiting, 1_000)
      over.release()
      yield* giveBack
      for (const sender of senders) (yield* sender.end()).reservation.release()
      assert.strictEqual((yield* (yield* startReading()).end()).body.length, 0)
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))

  it.effect("ends at the deadline, and gives up the place in the queue and what is held", () =>
    Effect.gen(function*() {
      yield* fillMemory
      const before = yield* used
      const sender = yield* startReading(9_000)
      yield* TestClock.adjust("3 seconds")
      yield* sender.send(100)
      assert.strictEqual(yield* used, before + 100)
      yield* TestClock.adjust("5999 millis")
      assert.isUndefined(sender.reading.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "overloaded")
      assert.strictEqual(yield* used, before)
      assert.strictEqual(yield* waiting, 0)
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))

  it.effect("is not waited out twice: the deadline holds for all waiting together", () =>
    Effect.gen(function*() {
      const sender = yield* startReading(9_000)
      for (const millis of [4_000, 4_000]) {
        const { giveBack } = yield* fillMemory
        yield* sender.send(65 * KiB)
        assert.strictEqual(yield* waiting, 1)
        yield* TestClock.adjust(millis)
        yield* giveBack
        assert.isUndefined(sender.reading.pollUnsafe())
      }
      yield* fillMemory
      yield* sender.send(65 * KiB)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "overloaded")
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))

  it.effect("is all that the deadline ends: a sender who is sending may go on", () =>
    Effect.gen(function*() {
      const sender = yield* startReading(2_000)
      for (let second = 0; second < 8; second++) {
        yield* sender.send(64 * KiB)
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual((yield* sender.end()).body.length, 8 * 64 * KiB)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("goes on past the deadline when there is room by then", () =>
    Effect.gen(function*() {
      const { giveBack } = yield* fillMemory
      const sender = yield* startReading(2_000)
      yield* sender.send(100)
      yield* TestClock.adjust("1 second")
      yield* giveBack
      yield* TestClock.adjust("3 seconds")
      yield* sender.send(100)
      assert.strictEqual((yield* sender.end()).body.length, 200)
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))
})

describe("a sender that goes away", () => {
  it.effect("in the middle of the body leaves no memory behind", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(100 * KiB)
      assert.strictEqual(yield* used, 100 * KiB)
      sender.request.destroy()
      const error = yield* Effect.flip(Fiber.join(sender.reading))
      assert.strictEqual(error, "body cut off")
      assert.strictEqual(yield* used, 0)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("with an error is a sender that went away", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(1)
      sender.request.destroy(new Error("aborted"))
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "body cut off")
    }).pipe(Effect.provide(TestLayer())))

  it.effect("while it waits for memory leaves the queue", () =>
    Effect.gen(function*() {
      yield* fillMemory
      const before = yield* used
      const sender = yield* startReading()
      yield* sender.send(100)
      assert.strictEqual(yield* waiting, 1)
      sender.request.destroy()
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "body cut off")
      assert.strictEqual(yield* waiting, 0)
      assert.strictEqual(yield* used, before)
    }).pipe(Effect.provide(TestLayer({ capacity: MiB }))))

  it.effect("before it is read at all is noticed", () =>
    Effect.gen(function*() {
      const request = new PassThrough()
      request.destroy()
      const reading = read(request as unknown as Http.IncomingMessage, 9_000, () => {})
      assert.strictEqual(yield* Effect.flip(reading), "body cut off")
      assert.strictEqual(yield* used, 0)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("with an error after it was found too slow does not end the process", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(yield* Effect.flip(Fiber.join(sender.reading)), "sender too slow")
      assert.isTrue(sender.request.listenerCount("error") > 0)
      const closed = new Promise((resolve) => sender.request.once("close", resolve))
      sender.request.destroy(new Error("aborted"))
      yield* Effect.promise(() => closed)
    }).pipe(Effect.provide(TestLayer())))

  it.effect("whose check has a defect lets no other sender be as slow as it likes", () =>
    Effect.gen(function*() {
      const broken = yield* startReading()
      const slow = yield* startReading()
      broken.request.off = () => {
        throw new Error("no such luck")
      }
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(yield* Effect.flip(Fiber.join(slow.reading)), "sender too slow")
      const later = yield* startReading()
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(yield* Effect.flip(Fiber.join(later.reading)), "sender too slow")
    }).pipe(Effect.provide(TestLayer())))

  it.effect("interrupts the reading, which gives its memory back and listens no more", () =>
    Effect.gen(function*() {
      const sender = yield* startReading()
      yield* sender.send(100)
      yield* Fiber.interrupt(sender.reading)
      assert.strictEqual(yield* used, 0)
      assert.strictEqual(sender.request.listenerCount("data"), 0)
    }).pipe(Effect.provide(TestLayer())))

  it.live.each(["destroy", "resetAndDestroy", "end"] as const)(
    "over a real socket leaves no memory behind (%s)",
    (goAway) =>
      Effect.gen(function*() {
        const timers = yield* Timers
        const received = Promise.withResolvers<void>()
        const context = yield* Effect.context<BodyReader | MemoryBudget>()
        const exit = Promise.withResolvers<Exit.Exit<ReceivedBody, BodyFailure>>()
        const server = Http.createServer((request) => {
          const reading = read(request, timers.now() + 60_000, () => received.resolve())
          Effect.runCallbackWith(context)(reading, { onExit: exit.resolve })
        })
        const connection = yield* openConnection(yield* listen(server))
        connection.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello`)
        yield* Effect.promise(() => received.promise)
        assert.strictEqual(yield* used, 5)
        connection.socket[goAway]()
        const failure = Exit.findErrorOption(yield* Effect.promise(() => exit.promise))
        assert.deepInclude(failure, { _tag: "Some" })
        assert.strictEqual(yield* used, 0)
      }).pipe(Effect.provide(TestLayer()))
  )
})

/** Until `done`, at most a few times. */
const collectGarbage = async (done: () => boolean, times = 10): Promise<void> => {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  await new Promise((resolve) => setImmediate(resolve))
  collect()
  if (!done() && times > 1) await collectGarbage(done, times - 1)
}
