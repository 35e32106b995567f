import { afterEach, assert, describe, expect, it, vi } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { BackendConnections } from "../../src/backends/connections/Connections.ts"
import type { AttemptReport } from "../../src/domain/AttemptReport.ts"
import { parse } from "../../src/domain/Backend.ts"
import { Body } from "../../src/domain/Body.ts"
import type { Delivery } from "../../src/domain/Delivery.ts"
import { Forwarder } from "../../src/forwarding/Forwarder.ts"
import { Metrics } from "../../src/observability/metrics/Metrics.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { ScriptedConnections } from "../support/ScriptedDispatcher.ts"

const backend = Result.getOrThrow(parse("http://pac.test/base", "static"))

const deliveryOf = (body: string): Delivery => ({
  requestId: "request",
  guid: "guid",
  event: "push",
  method: "POST",
  target: "/proxy?x=1",
  forwardedTarget: "/?x=1",
  headers: ["X-GitHub-Event", "push", "x-many", "1", "X-Many", "2"],
  body: new Body([Buffer.from(body)], body.length)
})

const timeout = 10_000

/** A permit is handed on within a few turns of the event loop, not by a clock. */
const turn = Effect.repeat(
  Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve))),
  { times: 3 }
)

const advance = (millis: number) => Effect.andThen(TestClock.adjust(millis), turn)

const setUp = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]> = {}) {
  const connections = new ScriptedConnections()
  const services = yield* Layer.build(Layer.provideMerge(
    Forwarder.layer,
    Layer.mergeAll(
      Settings.layerFrom(settings),
      Layer.succeed(BackendConnections, connections.service),
      Metrics.layer,
      Timers.layerClock
    )
  ))
  const forwarder = Context.get(services, Forwarder)
  const timers = Context.get(services, Timers)
  /** An attempt that is started, and expires as `Spray` would have it. */
  const start = (body = "{}") => {
    const seen = { reports: [] as Array<AttemptReport>, ended: 0 }
    const attempt = forwarder.attempt(backend, deliveryOf(body), timers.now() + timeout, {
      settled: (report) => seen.reports.push(report),
      ended: () => {
        assert.lengthOf(seen.reports, 1, "ended before it was settled")
        seen.ended += 1
      }
    })
    timers.after(timeout, () => attempt.expire("no answer in time"))
    attempt.start()
    return { attempt, seen }
  }
  return { dispatcher: connections.to(backend), start, timers }
})

const withoutRetries = { forwardingRetries: 0 }

afterEach(() => void vi.restoreAllMocks())

describe("what goes out", () => {
  it.effect("is the delivery as it is, to the backend's base path", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      start("payload")
      const { options } = dispatcher.last
      expect(options).toMatchObject({ origin: "http://pac.test", path: "/base/?x=1", method: "POST" })
      expect(options.headers).toEqual(["X-GitHub-Event", "push", "x-many", "1", "X-Many", "2"])
      expect(String(options.body)).toBe("payload")
    }))
})

describe("an outcome", () => {
  const statuses = [
    [200, "delivered"],
    [201, "delivered"],
    [202, "delivered"],
    [299, "delivered"],
    [301, "failed"],
    [302, "failed"],
    [307, "failed"],
    [308, "failed"],
    [400, "rejected"],
    [401, "failed"],
    [403, "failed"],
    [404, "failed"],
    [413, "rejected"],
    [429, "failed"],
    [500, "failed"],
    [502, "failed"],
    [503, "failed"],
    [504, "failed"]
  ] as const

  for (const [status, outcome] of statuses) {
    it.effect(`is ${outcome} when the answer is ${status}`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp(withoutRetries)
        const { seen } = start()
        dispatcher.last.start()
        yield* advance(7)
        dispatcher.last.answer(status)
        expect(seen.reports).toMatchObject([{ outcome, status, latency: 7, requests: 1 }])
        expect(seen.ended).toBe(1)
      }))
  }

  for (
    const [server, answer] of Object.entries({
      "Go": "Client sent an HTTP request to an HTTPS server.\n",
      "nginx": "<html>\r\n<center>The plain HTTP request was sent to HTTPS port</center>\r\n</html>\r\n",
      "Apache httpd": "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
      "Tomcat": "Bad Request\r\nThis combination of host and port requires TLS.\r\n"
    })
  ) {
    it.effect(`is failed when a port for TLS answers plain HTTP, as that of ${server}`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp()
        const { seen } = start()
        dispatcher.last.status(400).data(answer).end()
        expect(seen.reports).toMatchObject([{
          outcome: "failed",
          status: 400,
          error: "its port is for TLS: the backend's url has to begin with https://",
          requests: 1
        }])
      }))
  }

  it.effect("is rejected when the words of a 400 are others", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(400).data("invalid event body format\n").end()
      expect(seen.reports).toMatchObject([{ outcome: "rejected", status: 400, error: undefined }])
    }))

  it.effect("is unreachable when there is no connection", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp(withoutRetries)
      const { seen } = start()
      dispatcher.last.fail("ECONNREFUSED")
      expect(seen).toMatchObject({
        reports: [{ outcome: "unreachable", status: undefined, error: "ECONNREFUSED", requests: 1 }],
        ended: 1
      })
    }))

  it.effect("is unreachable when undici doesn't take the request", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp(withoutRetries)
      dispatcher.onDispatch = () => {
        throw new Error("invalid request path")
      }
      const { seen } = start()
      expect(seen).toMatchObject({
        reports: [{ outcome: "unreachable", error: "invalid request path" }],
        ended: 1
      })
    }))

  it.effect("is one when undici both reports an error and throws it", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ ...withoutRetries, backendConcurrency: 1 })
      dispatcher.onDispatch = (sent) => {
        sent.fail("UND_ERR_DESTROYED")
        throw new Error("destroyed")
      }
      expect(start().seen).toMatchObject({ reports: [{ error: "UND_ERR_DESTROYED" }], ended: 1 })
      dispatcher.onDispatch = () => {}
      start("second")
      start("third")
      expect(dispatcher.sent).toHaveLength(2)
    }))

  it.effect("is broken off when the connection ends before a status line", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.start().fail("ECONNRESET")
      expect(seen).toMatchObject({
        reports: [{ outcome: "broken off", status: undefined, error: "ECONNRESET", requests: 1 }],
        ended: 1
      })
    }))

  it.effect("is that of the status line when the connection ends after it", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(202).data("so far").fail("ECONNRESET")
      expect(seen).toMatchObject({ reports: [{ outcome: "delivered", status: 202, error: undefined }], ended: 1 })
    }))

  it.effect("is that of a failing status line too when the connection ends after it", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(500).data("stack tra").fail("ECONNRESET")
      expect(seen).toMatchObject({ reports: [{ outcome: "failed", status: 500, answer: "stack tra" }], ended: 1 })
    }))

  it.effect("is timed out when there is no status line in time", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.start()
      yield* advance(timeout - 1)
      expect(seen.reports).toEqual([])
      yield* advance(1)
      expect(seen).toMatchObject({
        reports: [{
          outcome: "timed out",
          status: undefined,
          error: "no answer in time",
          latency: timeout,
          requests: 1
        }],
        ended: 1
      })
      assert.isTrue(dispatcher.last.aborted)
    }))

  it.effect("is unreachable when there is no connection in time", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      yield* advance(timeout)
      expect(seen.reports).toMatchObject([{ outcome: "unreachable", error: "no connection in time", requests: 1 }])
      expect(seen.ended).toBe(0)
      dispatcher.last.fail("UND_ERR_CONNECT_TIMEOUT")
      expect(seen).toMatchObject({ reports: [{ outcome: "unreachable" }], ended: 1 })
    }))

  it.effect("is not changed by informational answers", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(100).status(103, { link: "</style.css>" })
      expect(seen.reports).toEqual([])
      dispatcher.last.answer(202)
      expect(seen.reports).toMatchObject([{ outcome: "delivered", status: 202 }])
    }))

  it.effect("is timed out after informational answers alone", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(102)
      yield* advance(timeout)
      expect(seen.reports).toMatchObject([{ outcome: "timed out", status: undefined }])
    }))

  it.effect("names the redirect that was not followed", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.answer(308, { location: "https://pac.test/" })
      expect(seen.reports).toMatchObject([{
        outcome: "failed",
        status: 308,
        error: "redirect not followed: https://pac.test/"
      }])
      expect(dispatcher.sent).toHaveLength(1)
    }))

  it.effect("names what a proxy answered in the place of the backend", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ forwardingRetries: 0 })
      const tunnels = [407, 503].map((status) => {
        const { seen } = start()
        dispatcher.last.fail("UND_ERR_ABORTED", `Proxy response (${status}) !== 200 when HTTP Tunneling`)
        return seen.reports[0]
      })
      const { seen } = start()
      dispatcher.last.answer(407)
      expect([...tunnels, seen.reports[0]]).toMatchObject([
        { outcome: "unreachable", error: "the proxy answered 407: proxy authentication required" },
        { outcome: "unreachable", error: "the proxy answered 503" },
        { outcome: "failed", status: 407, error: "proxy authentication required" }
      ])
    }))
})

describe("an answer", () => {
  it.effect("that trickles doesn't delay the outcome, and keeps its memory until it ends", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(200).data("a")
      expect(seen.reports).toMatchObject([{ outcome: "delivered" }])
      yield* advance(500)
      expect(seen.ended).toBe(0)
      dispatcher.last.data("b").end()
      expect(seen.ended).toBe(1)
    }))

  it.effect("that never ends is cut off with the forwarding timeout", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(200)
      yield* advance(timeout)
      expect(dispatcher.last.aborted).toBe(true)
      expect(seen).toMatchObject({ reports: [{ outcome: "delivered" }], ended: 1 })
    }))

  it.effect("of 64 KiB is read to its end, so that the connection can be kept", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      start()
      dispatcher.last.status(200).data(Buffer.alloc(60 * 1024)).data(Buffer.alloc(4 * 1024))
      expect(dispatcher.last.aborted).toBe(false)
    }))

  it.effect("of more than 64 KiB is aborted, and the delivery is delivered", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(200).data(Buffer.alloc(64 * 1024)).data("x")
      expect(dispatcher.last.aborted).toBe(true)
      expect(seen).toMatchObject({ reports: [{ outcome: "delivered", status: 200, requests: 1 }], ended: 1 })
    }))

  it.effect("is not kept when it is 2xx", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(202).data("accepted").end()
      expect(seen.reports).toMatchObject([{ answer: undefined }])
    }))

  it.effect("is kept up to its first kB when it is not 2xx", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(404).data("a".repeat(1_000))
      expect(seen.reports).toEqual([])
      dispatcher.last.data("b".repeat(1_000))
      expect(seen.reports).toMatchObject([{ outcome: "failed", answer: "a".repeat(1_000) + "b".repeat(24) }])
      dispatcher.last.data("c").end()
      expect(seen.reports).toHaveLength(1)
    }))

  it.effect("that is not 2xx is waited for no longer than a second", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(404).data("no such ")
      yield* advance(999)
      expect(seen.reports).toEqual([])
      yield* advance(1)
      expect(seen.reports).toMatchObject([{ outcome: "failed", status: 404, answer: "no such ", latency: 0 }])
      dispatcher.last.data("route").end()
      expect(seen).toMatchObject({ reports: [{ answer: "no such " }], ended: 1 })
    }))

  it.effect("whose words are awaited when the time is up counts with its status", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.start()
      yield* advance(timeout - 10)
      dispatcher.last.status(500).data("so far")
      yield* advance(10)
      expect(seen).toMatchObject({ reports: [{ outcome: "failed", status: 500, answer: "so far" }], ended: 1 })
    }))
})

describe("a retry", () => {
  it.effect("follows a refused connection, and delivers", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      vi.spyOn(Math, "random").mockReturnValue(1)
      const { seen } = start()
      dispatcher.last.fail("ECONNREFUSED")
      expect(seen).toEqual({ reports: [], ended: 0 })
      yield* advance(500)
      expect(dispatcher.sent).toHaveLength(2)
      expect(dispatcher.last.options).toEqual(dispatcher.sent[0]!.options)
      dispatcher.last.start()
      yield* advance(3)
      dispatcher.last.answer(202)
      expect(seen).toMatchObject({
        reports: [{ outcome: "delivered", status: 202, requests: 2, latency: 3 }],
        ended: 1
      })
    }))

  for (const status of [429, 503]) {
    it.effect(`follows a ${status}, and delivers`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp()
        const { seen } = start()
        dispatcher.last.answer(status)
        yield* advance(500)
        dispatcher.last.answer(202)
        expect(dispatcher.sent).toHaveLength(2)
        expect(seen).toMatchObject({ reports: [{ outcome: "delivered", status: 202, requests: 2 }], ended: 1 })
      }))
  }

  for (const status of [301, 302, 307, 308, 400, 401, 403, 404, 408, 413, 425, 500, 501, 502, 504, 508]) {
    it.effect(`never follows a ${status}`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp()
        const { seen } = start()
        dispatcher.last.answer(status, { "retry-after": "1" })
        expect(seen).toMatchObject({ reports: [{ status, requests: 1 }], ended: 1 })
        yield* advance(timeout)
        expect(dispatcher.sent).toHaveLength(1)
      }))
  }

  it.effect("never follows a connection that broke off, nor a timeout", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const first = start()
      dispatcher.last.start().fail("UND_ERR_SOCKET")
      const second = start()
      dispatcher.last.start()
      yield* advance(2 * timeout)
      expect(first.seen.reports).toMatchObject([{ outcome: "broken off", requests: 1 }])
      expect(second.seen.reports).toMatchObject([{ outcome: "timed out", requests: 1 }])
      expect(dispatcher.sent).toHaveLength(2)
    }))

  it.effect("is not a timeout's after an earlier 503 either", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.answer(503)
      yield* advance(500)
      dispatcher.last.start()
      yield* advance(timeout)
      expect(seen).toMatchObject({ reports: [{ outcome: "timed out", status: undefined, requests: 2 }], ended: 1 })
      expect(dispatcher.sent).toHaveLength(2)
    }))

  for (const retries of [0, 1, 2, 5]) {
    it.effect(`is made ${retries} times at most with --forwarding-retries ${retries}`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp({ forwardingRetries: retries })
        vi.spyOn(Math, "random").mockReturnValue(0)
        dispatcher.onDispatch = (sent) => void sent.fail("ECONNREFUSED")
        const { seen } = start()
        yield* advance(timeout)
        expect(dispatcher.sent).toHaveLength(retries + 1)
        expect(seen).toMatchObject({ reports: [{ outcome: "unreachable", requests: retries + 1 }], ended: 1 })
      }))
  }

  it.effect("comes later each time", () =>
    Effect.gen(function*() {
      const { dispatcher, start, timers } = yield* setUp({ forwardingRetries: 4 })
      vi.spyOn(Math, "random").mockReturnValue(0)
      const at: Array<number> = []
      dispatcher.onDispatch = (sent) => {
        at.push(timers.now())
        sent.fail("ECONNREFUSED")
      }
      start()
      yield* advance(timeout)
      expect(at).toEqual([0, 250, 750, 1_750, 3_750])
    }))

  it.effect("comes up to twice as late by chance", () =>
    Effect.gen(function*() {
      const { dispatcher, start, timers } = yield* setUp({ forwardingRetries: 1 })
      const at: Array<number> = []
      dispatcher.onDispatch = (sent) => {
        at.push(timers.now())
        sent.fail("ECONNREFUSED")
      }
      for (const random of [0, 0.5, 1]) {
        vi.spyOn(Math, "random").mockReturnValue(random)
        start()
      }
      yield* advance(timeout)
      expect(at).toEqual([0, 0, 0, 250, 375, 500])
    }))

  it.effect("waits as long as Retry-After says, in seconds", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.answer(503, { "retry-after": "4" })
      yield* advance(3_999)
      expect(dispatcher.sent).toHaveLength(1)
      yield* advance(1)
      dispatcher.last.answer(202)
      expect(seen.reports).toMatchObject([{ outcome: "delivered", requests: 2 }])
    }))

  it.effect("waits as long as Retry-After says, as a date", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      start()
      vi.spyOn(Date, "now").mockReturnValue(Date.parse("Wed, 21 Oct 2026 07:28:00 GMT"))
      dispatcher.last.answer(429, { "retry-after": "Wed, 21 Oct 2026 07:28:03 GMT" })
      yield* advance(2_999)
      expect(dispatcher.sent).toHaveLength(1)
      yield* advance(1)
      expect(dispatcher.sent).toHaveLength(2)
    }))

  for (const value of ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", ""]) {
    it.effect(`comes after the usual time when Retry-After is ${JSON.stringify(value)}`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp()
        vi.spyOn(Math, "random").mockReturnValue(0)
        start()
        dispatcher.last.answer(503, { "retry-after": value })
        yield* advance(249)
        expect(dispatcher.sent).toHaveLength(1)
        yield* advance(1)
        expect(dispatcher.sent).toHaveLength(2)
      }))
  }

  for (const value of ["10", "86400", "9".repeat(400)]) {
    it.effect(`is not made when Retry-After ends after the forwarding timeout: ${value.slice(0, 5)} s`, () =>
      Effect.gen(function*() {
        const { dispatcher, start } = yield* setUp()
        const { seen } = start()
        dispatcher.last.answer(503, { "retry-after": value })
        expect(seen).toMatchObject({ reports: [{ outcome: "failed", status: 503, requests: 1 }], ended: 1 })
      }))
  }

  it.effect("is not made when it would come after the forwarding timeout", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ forwardingRetries: 10 })
      vi.spyOn(Math, "random").mockReturnValue(0)
      const { seen } = start()
      yield* advance(timeout - 250)
      dispatcher.last.fail("ECONNREFUSED")
      expect(seen).toMatchObject({ reports: [{ outcome: "unreachable", requests: 1 }], ended: 1 })
    }))

  it.effect("that is due when the time is cut short leaves what the attempt has come to", () =>
    Effect.gen(function*() {
      const { attempt, dispatcher, seen } = yield* Effect.map(setUp(), (made) => ({ ...made, ...made.start() }))
      dispatcher.last.status(503).data("no pod").end()
      attempt.expire("cut off by the shutdown")
      expect(seen).toMatchObject({ reports: [{ outcome: "failed", status: 503, answer: "no pod" }], ended: 1 })
      yield* advance(timeout)
      expect(dispatcher.sent).toHaveLength(1)
    }))

  it.effect("needs a permit, and gives its own back while it waits", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 1 })
      start("first")
      start("second")
      dispatcher.last.answer(503)
      yield* turn
      expect(String(dispatcher.last.options.body)).toBe("second")
      yield* advance(500)
      expect(dispatcher.sent).toHaveLength(2)
      dispatcher.last.answer(202)
      yield* turn
      expect(String(dispatcher.last.options.body)).toBe("first")
      expect(dispatcher.sent).toHaveLength(3)
    }))

  it.effect("is one, however long the answer before it goes on", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      dispatcher.last.status(503).data("x".repeat(1024))
      yield* advance(100)
      dispatcher.last.data("x").end()
      yield* advance(timeout)
      expect(dispatcher.sent).toHaveLength(2)
      expect(seen.reports).toHaveLength(1)
    }))

  it.effect("may run while the answer before it still trickles, and memory waits for both", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      const first = dispatcher.last.status(503).data("x".repeat(1024))
      yield* advance(500)
      dispatcher.last.answer(202)
      expect(seen).toMatchObject({ reports: [{ outcome: "delivered", requests: 2 }], ended: 0 })
      first.end()
      expect(seen.ended).toBe(1)
    }))
})

describe("a permit", () => {
  it.effect("is waited for by all beyond --backend-concurrency, the oldest first", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 2 })
      for (const body of ["1", "2", "3", "4"]) start(body)
      expect(dispatcher.sent).toHaveLength(2)
      dispatcher.sent[1]!.answer(202)
      yield* turn
      dispatcher.sent[0]!.answer(202)
      yield* turn
      expect(dispatcher.sent.map(({ options }) => String(options.body))).toEqual(["1", "2", "3", "4"])
    }))

  it.effect("is not taken ahead of those that wait", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 1 })
      start("1")
      start("2")
      dispatcher.last.answer(202)
      start("3")
      yield* turn
      expect(dispatcher.sent.map(({ options }) => String(options.body))).toEqual(["1", "2"])
    }))

  it.effect("is given back when undici has let go, not when the time is up", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 1 })
      dispatcher.letsGo = false
      const first = start("first")
      dispatcher.last.start()
      yield* advance(timeout - 1)
      const second = start("second")
      yield* advance(1)
      expect(first.seen).toMatchObject({ reports: [{ outcome: "timed out" }], ended: 0 })
      expect(dispatcher.sent).toHaveLength(1)
      dispatcher.last.fail("UND_ERR_ABORTED")
      yield* turn
      expect(first.seen.ended).toBe(1)
      expect(dispatcher.sent).toHaveLength(2)
      dispatcher.last.answer(202)
      expect(second.seen).toMatchObject({ reports: [{ outcome: "delivered" }], ended: 1 })
    }))

  it.effect("is given back when undici refuses requests one after the other", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ ...withoutRetries, backendConcurrency: 1 })
      start("first")
      const waiting = ["second", "third"].map((body) => start(body))
      dispatcher.onDispatch = () => {
        throw new Error("no")
      }
      dispatcher.last.answer(202)
      yield* turn
      yield* turn
      dispatcher.onDispatch = () => {}
      for (const { seen } of waiting) expect(seen).toMatchObject({ reports: [{ outcome: "unreachable" }], ended: 1 })
      start("fourth")
      expect(String(dispatcher.last.options.body)).toBe("fourth")
    }))

  it.effect("that doesn't come in time leaves the backend unreachable", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 1 })
      dispatcher.letsGo = false
      start("first")
      dispatcher.last.start()
      yield* advance(1)
      const { seen } = start("second")
      yield* advance(timeout)
      expect(seen).toMatchObject({
        reports: [{ outcome: "unreachable", error: "no permit in time", requests: 0, latency: timeout }],
        ended: 1
      })
    }))

  it.effect("goes to nobody who has given up waiting", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 1 })
      start("first")
      const { attempt } = start("second")
      attempt.expire("cut off by the shutdown")
      start("third")
      dispatcher.last.answer(202)
      yield* turn
      expect(dispatcher.sent.map(({ options }) => String(options.body))).toEqual(["first", "third"])
    }))

  it.effect("leaves one clock for waiting and answering", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp({ backendConcurrency: 1 })
      start("first")
      const { seen } = start("second")
      yield* advance(timeout - 1_000)
      dispatcher.last.answer(202)
      yield* turn
      dispatcher.last.start()
      yield* advance(999)
      expect(seen.reports).toEqual([])
      yield* advance(1)
      expect(seen.reports).toMatchObject([{ outcome: "timed out", requests: 1 }])
    }))
})

describe("a request that is aborted before undici has a connection for it", () => {
  it.effect("is aborted as soon as it starts, and never settles twice", () =>
    Effect.gen(function*() {
      const { dispatcher, start } = yield* setUp()
      const { seen } = start()
      yield* advance(timeout)
      expect(dispatcher.last.aborted).toBe(false)
      dispatcher.last.start()
      expect(dispatcher.last.aborted).toBe(true)
      expect(seen).toMatchObject({ reports: [{ outcome: "unreachable" }], ended: 1 })
    }))
})
