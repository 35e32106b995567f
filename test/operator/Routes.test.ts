import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { LogEntries } from "../../src/observability/logs/Logging.ts"
import { MemoryBudget } from "../../src/runtime/MemoryBudget.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { RecoveryStore } from "../../src/store/RecoveryStore.ts"
import type { NewDelivery } from "../../src/store/contract/Queue.ts"
import { rowStates } from "../../src/store/contract/Row.ts"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import { send } from "../support/GitHub.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"
import {
  keep,
  lastId,
  OperatorServer,
  OperatorServerAbove,
  port,
  received,
  registeredKeys,
  row,
  StoreContents
} from "../support/OperatorServer.ts"
import { eventually } from "../support/eventually.ts"

const ask = Effect.fnUntraced(function*(method: string, path: string, body?: string) {
  const to = yield* port
  return yield* Effect.promise(() => send(to, { method, path, ...(body === undefined ? {} : { body }) }))
})

const askJson = Effect.fnUntraced(function*(method: string, path: string, body?: string) {
  const reply = yield* ask(method, path, body)
  assert.deepStrictEqual([reply.status, reply.headers["content-type"]], [200, "application/json"], reply.text)
  return JSON.parse(reply.text)
})

const refused = Effect.fnUntraced(
  function*(status: number, text: string, ...[method, path, body]: Parameters<typeof ask>) {
    const reply = yield* ask(method, path, body)
    assert.deepStrictEqual([reply.status, reply.text], [status, text])
    assert.strictEqual(reply.headers["content-type"], "text/plain; charset=utf-8")
  }
)

describe("what a page in a browser sends", () => {
  it.effect("is refused", () =>
    Effect.gen(function*() {
      const to = yield* port
      for (
        const [method, path] of [
          ["GET", "/deliveries"],
          ["GET", "/deliveries/guid-1"],
          ["POST", "/deliveries/guid-1/redeliver"],
          ["POST", "/deliveries/redeliver"]
        ] as const
      ) {
        const reply = yield* Effect.promise(() =>
          send(to, {
            method,
            path,
            headers: { "sec-fetch-site": "cross-site" },
            ...(method === "GET" ? {} : { body: "{}" })
          })
        )
        assert.deepStrictEqual([reply.status, reply.text], [403, "requests of web pages are refused"])
      }
      assert.deepStrictEqual((yield* StoreContents).redeliveries, [])
    }).pipe(Effect.provide(OperatorServer())))
})

describe("GET /deliveries", () => {
  it.effect("lists what the store has, and where to go on", () =>
    Effect.gen(function*() {
      const { kept } = yield* StoreContents
      const pending = row("https://b.example.com/x", {
        state: "pending",
        tries: 3,
        dueAt: received + 60_000,
        lastOutcome: "unreachable",
        settledAt: undefined
      })
      kept.push(
        keep(1, { rows: [row("https://a.example.com"), pending] }),
        keep(2),
        keep(3, { guid: undefined, hookId: "" })
      )
      const first = yield* askJson("GET", "/deliveries?limit=2")
      assert.deepStrictEqual(first.deliveries[0], {
        id: kept[0]!.id,
        guid: "guid-1",
        event: "push",
        hookId: "292430182",
        requestId: "req",
        receivedAt: "2026-01-02T03:04:05.679Z",
        bodyLength: 7,
        hasBody: true,
        backends: [
          {
            url: "https://a.example.com",
            state: "delivered",
            since: "2026-01-02T03:04:05.678Z",
            tries: 1,
            dueAt: null,
            underWay: false,
            lastOutcome: "delivered",
            settledAt: "2026-01-02T03:04:06.678Z"
          },
          {
            url: "https://b.example.com/x",
            state: "pending",
            since: "2026-01-02T03:04:05.678Z",
            tries: 3,
            dueAt: "2026-01-02T03:05:05.678Z",
            underWay: false,
            lastOutcome: "unreachable",
            settledAt: null
          }
        ]
      })
      const second = yield* askJson("GET", `/deliveries?limit=2&cursor=${first.next}`)
      assert.strictEqual(second.next, null)
      assert.deepStrictEqual(second.deliveries.map(({ guid, hookId }: Record<string, unknown>) => [guid, hookId]), [[
        null,
        null
      ]])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("asks for 50 of everything", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* askJson("GET", "/deliveries"), { deliveries: [], next: null })
      const [[filter, page] = []] = (yield* StoreContents).lists
      assert.deepEqual(JSON.parse(JSON.stringify(filter)), {})
      assert.deepEqual(page, { limit: 50, after: undefined })
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("hands every filter to the store, backends by their key", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(received)
      const backend = encodeURIComponent("HTTPS://PAC.example.com:443/base/")
      yield* askJson("GET", `/deliveries?state=dead&backend=${backend}&event=push&guid=g-1&since=24h&limit=500`)
      const [[filter, page] = []] = (yield* StoreContents).lists
      assert.deepStrictEqual(filter, {
        state: "dead",
        backend: "https://pac.example.com/base",
        event: "push",
        guid: "g-1",
        age: 24 * 3_600_000
      })
      assert.strictEqual(page?.limit, 500)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect.each([
    ["2026-01-02T03:04:05Z", Date.UTC(2026, 0, 2, 3, 4, 5)],
    ["2026-01-02T03:04:05.678Z", received],
    ["2026-01-02t04:04:05.678%2B01:00", received],
    ["2026-01-02T04:04:05.678+01:00", received],
    ["2026-01-02T03:04:05.6Z", received - 78]
  ])("takes %s for a time", ([since, expected]) =>
    Effect.gen(function*() {
      yield* askJson("GET", `/deliveries?since=${since}`)
      assert.strictEqual((yield* StoreContents).lists[0]?.[0].since, expected)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("leaves it to the store's clock what a duration back from now is", () =>
    Effect.gen(function*() {
      // The process is days ahead.
      yield* TestClock.setTime(received + 100 * 3_600_000)
      yield* askJson("GET", "/deliveries?since=1h30m")
      assert.deepInclude((yield* StoreContents).lists[0]?.[0], { age: 5_400_000 })
    }).pipe(Effect.provide(OperatorServer())))

  const time = "since is a time like 2026-01-02T03:04:05Z, or a duration back from now like 24h"
  it.effect.each([
    ["state=ded", `invalid state "ded": a state is pending, delivered, rejected, dead, cancelled`],
    ["state=", `invalid state "": a state is pending, delivered, rejected, dead, cancelled`],
    ["backend=pac", `invalid backend "pac": a backend is a url like https://pac.example.com`],
    ["event=", `invalid event "": an event is a name like push`],
    ["guid=a%00b", `invalid guid "a\\u0000b": a guid is the value of X-GitHub-Delivery`],
    ["since=yesterday", `invalid since "yesterday": ${time}`],
    ["since=-1h", `invalid since "-1h": ${time}`],
    ["since=2026-02-30T00:00:00Z", `invalid since "2026-02-30T00:00:00Z": ${time}`],
    ["since=2026-01-02", `invalid since "2026-01-02": ${time}`],
    ["limit=0", `invalid limit "0": a limit is a whole number from 1 to 500`],
    ["limit=501", `invalid limit "501": a limit is a whole number from 1 to 500`],
    ["limit=1.5", `invalid limit "1.5": a limit is a whole number from 1 to 500`],
    ["cursor=1", `invalid cursor "1": a cursor is the next of another answer`],
    ["limit=1&limit=2", "limit is given twice"],
    [
      "stat=dead",
      `unknown parameter "stat": known are state, backend, event, since, guid, limit, cursor`
    ]
  ])("refuses %s in one line", ([query, reason]) =>
    Effect.gen(function*() {
      yield* refused(400, reason!, "GET", `/deliveries?${query}`)
      assert.lengthOf((yield* StoreContents).lists, 0)
    }).pipe(Effect.provide(OperatorServer())))
})

const deadAt = (backend: string) =>
  Effect.map(askJson("GET", `/deliveries?state=dead&backend=${backend}`), (answer) => answer.deliveries.length)

const shown = (path: string) => Effect.map(askJson("GET", path), ({ deliveries }) => deliveries)

describe("GET /deliveries/{guid}", () => {
  it.effect("tells when it first failed at GitHub, how often it was asked for, and how late it came", () =>
    Effect.gen(function*() {
      const { kept } = yield* StoreContents
      kept.push(
        keep(1, {
          recovery: {
            state: "recovered",
            failedAt: received - 3_600_000,
            asks: 2,
            askedAt: received - 1_500,
            recoveredAt: received,
            reason: undefined
          }
        }),
        keep(2)
      )
      const recovery = {
        state: "recovered",
        failedAt: "2026-01-02T02:04:05.678Z",
        requests: 2,
        askedAt: "2026-01-02T03:04:04.178Z",
        recoveredAt: "2026-01-02T03:04:05.678Z",
        late: 3_600,
        reason: null
      }
      assert.deepStrictEqual((yield* askJson("GET", "/deliveries/guid-1")).deliveries[0].recovery, recovery)
      const listed = yield* askJson("GET", "/deliveries")
      assert.deepStrictEqual(listed.deliveries[0].recovery, recovery)
      assert.notProperty(listed.deliveries[1], "recovery", "nobody had to ask for it")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("shows headers and attempts, and neither secrets nor the payload", () =>
    Effect.gen(function*() {
      const { kept } = yield* StoreContents
      const [a, b] = ["https://a.example.com", "https://b.example.com"] as const
      const one = keep(1, {
        rows: [row(a), row(b, { state: "dead", lastOutcome: "failed" })],
        attempts: [
          {
            key: a,
            at: received,
            outcome: "delivered",
            status: 202,
            latency: 12.5,
            error: undefined,
            answer: undefined
          },
          {
            key: b,
            at: received,
            outcome: "unreachable",
            status: undefined,
            latency: 1,
            error: "ECONNREFUSED",
            answer: undefined
          },
          { key: b, at: received + 1, outcome: "failed", status: 500, latency: 2_000, error: undefined, answer: "no" }
        ]
      })
      const secrets = [
        "Authorization",
        "Cookie",
        "X-Hub-Signature",
        "x-api-key",
        "X-Gitlab-Token",
        "X-Client-Secret",
        "Password"
      ]
      kept.push({
        ...one,
        headers: [...one.headers, "X-A", "1", "X-A", "2", ...secrets.flatMap((name) => [name, "hidden"])]
      })
      const reply = yield* ask("GET", "/deliveries/guid-1")
      assert.notInclude(reply.text, "hidden")
      assert.notInclude(reply.text, "sha256=")
      assert.notInclude(reply.text, "abc")
      const [delivery] = JSON.parse(reply.text).deliveries
      assert.deepStrictEqual(delivery.headers, [
        ["Content-Type", "application/json"],
        ["X-Hub-Signature-256", "***"],
        ["X-A", "1"],
        ["X-A", "2"],
        ...secrets.map((name) => [name, "***"])
      ])
      assert.deepInclude(delivery, { method: "POST", target: "/proxy?***", signature: "valid", hasBody: true })
      assert.notProperty(delivery, "body")
      assert.deepStrictEqual(delivery.backends.map(({ attempts, url }: Record<string, unknown>) => [url, attempts]), [
        [a, [{
          at: "2026-01-02T03:04:05.678Z",
          outcome: "delivered",
          status: 202,
          latency: 0.0125,
          answer: null,
          error: null
        }]],
        [b, [
          {
            at: "2026-01-02T03:04:05.678Z",
            outcome: "unreachable",
            status: null,
            latency: 0.001,
            answer: null,
            error: "ECONNREFUSED"
          },
          { at: "2026-01-02T03:04:05.679Z", outcome: "failed", status: 500, latency: 2, answer: "no", error: null }
        ]]
      ])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("shows all that have the GUID, and one by its id", () =>
    Effect.gen(function*() {
      const { kept } = yield* StoreContents
      kept.push(keep(1, { guid: "twice" }), keep(2, { guid: "twice" }), keep(3))
      assert.lengthOf(yield* shown("/deliveries/twice"), 2)
      assert.strictEqual((yield* shown(`/deliveries/${kept[1]!.id}`))[0].id, kept[1]!.id)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("takes a GUID that needs escapes", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1, { guid: "a/b ü%" }))
      assert.lengthOf(yield* shown(`/deliveries/${encodeURIComponent("a/b ü%")}`), 1)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("shows the payload when asked: text as it is, anything else in base64", () =>
    Effect.gen(function*() {
      const { kept } = yield* StoreContents
      kept.push(keep(1, { body: Buffer.from(`{"ü": 1}\r\n`) }), keep(2, { body: Buffer.from([0xff, 0, 1]) }))
      assert.deepInclude((yield* shown("/deliveries/guid-1?body=true"))[0], {
        body: `{"ü": 1}\r\n`,
        bodyEncoding: "utf8"
      })
      assert.deepInclude((yield* shown("/deliveries/guid-2?body=true"))[0], { body: "/wAB", bodyEncoding: "base64" })
      assert.notProperty((yield* shown("/deliveries/guid-1?body=false"))[0], "body")
      yield* refused(400, `invalid body "yes": body is true or false`, "GET", "/deliveries/guid-1?body=yes")
      yield* refused(400, `unknown parameter "b": known are body`, "GET", "/deliveries/guid-1?b=1")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("says when the signature matches no secret of now", () =>
    Effect.gen(function*() {
      const { kept } = yield* StoreContents
      kept.push(keep(1), keep(2, {}, "the one before"), keep(3, { headers: [] }))
      for (const [n, signature] of [[1, "valid"], [2, "no longer valid"], [3, "no longer valid"]] as const) {
        assert.strictEqual((yield* shown(`/deliveries/guid-${n}`))[0].signature, signature)
      }
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("checks no signature when none is checked, or none can be", () =>
    Effect.gen(function*() {
      const unchecked = Effect.gen(function*() {
        ;(yield* StoreContents).kept.push(keep(1))
        assert.strictEqual((yield* shown("/deliveries/guid-1"))[0].signature, "unchecked")
      })
      yield* Effect.provide(unchecked, OperatorServer({ insecureSkipWebhookVerify: true }))
      yield* Effect.provide(unchecked, OperatorServer({ webhookSecret: Option.none() }))
    }))

  it.effect("shows what is left of one whose body is gone", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1, { hasBody: false }))
      const [delivery] = yield* shown("/deliveries/guid-1?body=true")
      assert.deepInclude(delivery, {
        headers: null,
        target: null,
        method: null,
        signature: "unchecked",
        hasBody: false
      })
      assert.notProperty(delivery, "body")
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("gives memory back, also for bodies larger than all of it", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1, { body: Buffer.alloc(3_000_000, " ") }))
      for (let n = 0; n < 3; n += 1) assert.lengthOf(yield* shown("/deliveries/guid-1?body=true"), 1)
    }).pipe(Effect.provide(OperatorServer({ bodyMemory: 1024 * 1024 }))))

  it.effect("cuts an answer off whose next payload the store does not give", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.kept.push(keep(1, { guid: "g" }), keep(2, { guid: "g", body: Buffer.alloc(200_000, " ") }))
      contents.loadsBeforeFailure = 1
      const to = yield* port
      const reply = yield* Effect.exit(
        Effect.tryPromise(() => send(to, { method: "GET", path: "/deliveries/g?body=true" }))
      )
      assert.isTrue(Exit.isFailure(reply))
      assert.deepStrictEqual(
        (yield* LogEntries).entries.map(({ message }) => message),
        ["the store did not answer an operator"]
      )
      assert.strictEqual((yield* MemoryBudget).state().used, 0)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("is refused when there is no memory for the body in time", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1))
      const budget = yield* MemoryBudget
      const [all, beyond] = [budget.open(), budget.open()]
      for (const reservation of [all, beyond]) reservation.verified()
      all.hold(budget.state().capacity)
      // Only one may go on beyond the budget.
      beyond.wait(1, () => {})
      const waiting = Effect.promise(() => eventually(() => budget.state().waiting === 1))
      const [reply] = yield* Effect.all(
        [ask("GET", "/deliveries/guid-1"), Effect.andThen(waiting, TestClock.adjust("10 seconds"))],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([reply.status, reply.text, reply.headers["retry-after"]], [503, "overloaded", "10"])
      assert.strictEqual(budget.state().waiting, 0)
      for (const reservation of [all, beyond]) reservation.release()
      assert.lengthOf(yield* shown("/deliveries/guid-1"), 1)
      assert.strictEqual(budget.state().used, 0)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect.each(["/deliveries/none", "/deliveries/a%00b"])(
    "does not know %s",
    (path) => Effect.provide(refused(404, "no delivery with this GUID or id is kept", "GET", path), OperatorServer())
  )
})

describe("POST /deliveries/{guid}/redeliver", () => {
  it.effect("sends it to all of its backends again, or to one", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.kept.push(keep(1))
      contents.matching = 3
      assert.deepStrictEqual(yield* askJson("POST", "/deliveries/guid-1/redeliver"), { redelivered: 3, remaining: 0 })
      yield* askJson("POST", "/deliveries/guid-1/redeliver", `{"backend":"HTTPS://A.example.com/"}`)
      yield* askJson("POST", `/deliveries/${contents.kept[0]!.id}/redeliver`, "{}")
      assert.deepStrictEqual(contents.redeliveries, [
        [{ guid: "guid-1", among: registeredKeys }, 500],
        [{ guid: "guid-1", among: ["https://a.example.com"] }, 500],
        [{ id: contents.kept[0]!.id, among: registeredKeys }, 500]
      ])
      const logged = (yield* LogEntries).entries.filter(({ message }) => message === "redelivery asked for")
      assert.deepInclude(logged[0]?.fields, { delivery: "guid-1", redelivered: 3, remaining: 0 })
      assert.lengthOf(logged, 3)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("refuses what it can't do", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.kept.push(keep(1), keep(2, { hasBody: false }), keep(3, { rows: [row("https://gone.example.com")] }))
      const path = "/deliveries/guid-1/redeliver"
      yield* refused(404, "no delivery with this GUID or id is kept", "POST", "/deliveries/none/redeliver")
      yield* refused(422, "the delivery's body is no longer kept", "POST", "/deliveries/guid-2/redeliver")
      yield* refused(
        422,
        `the delivery has not gone to "https://b.example.com"`,
        "POST",
        path,
        `{"backend":"https://b.example.com"}`
      )
      yield* refused(
        422,
        `backend "https://gone.example.com" is not registered`,
        "POST",
        path,
        `{"backend":"https://gone.example.com"}`
      )
      yield* refused(
        422,
        "the delivery has not gone to any backend that is registered",
        "POST",
        "/deliveries/guid-3/redeliver"
      )
      yield* refused(
        422,
        `invalid backend 1: a backend is a url like https://pac.example.com`,
        "POST",
        path,
        `{"backend":1}`
      )
      yield* refused(422, `unknown parameter "url": known are backend`, "POST", path, `{"url":"https://a.example.com"}`)
      for (const body of ["{", "[]", "null", `"x"`, "1"]) {
        yield* refused(400, "please provide a valid json body", "POST", path, body)
      }
      yield* refused(413, "request body too large", "POST", path, " ".repeat(65_537))
      assert.lengthOf(contents.redeliveries, 0)
    }).pipe(Effect.provide(OperatorServer())))
})

describe("POST /deliveries/redeliver", () => {
  it.effect("sends the dead again, a batch at a time, and says what it matched", () =>
    Effect.gen(function*() {
      const contents = yield* StoreContents
      contents.matching = 700
      yield* TestClock.setTime(received)
      assert.deepStrictEqual(yield* askJson("POST", "/deliveries/redeliver", "{}"), {
        redelivered: 500,
        remaining: 200,
        next: `${lastId} https://z.example.com`,
        matched: { state: "dead" }
      })
      const body = JSON.stringify({
        state: "rejected",
        backend: "https://a.example.com/",
        event: "push",
        since: "1h",
        limit: 9,
        cursor: `${lastId} https://z.example.com`
      })
      assert.deepStrictEqual(yield* askJson("POST", "/deliveries/redeliver", body), {
        redelivered: 9,
        next: `${lastId} https://z.example.com`,
        matched: {
          state: "rejected",
          backend: "https://a.example.com",
          event: "push",
          since: "1h0m0s"
        }
      })
      assert.deepStrictEqual(contents.redeliveries, [
        [{ state: "dead", event: undefined, since: undefined, age: undefined, among: registeredKeys }, 500],
        [
          { state: "rejected", event: "push", since: undefined, age: 3_600_000, among: ["https://a.example.com"] },
          9,
          { id: lastId, key: "https://z.example.com" }
        ]
      ])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("sends nothing again when the filter is not understood", () =>
    Effect.gen(function*() {
      const path = "/deliveries/redeliver"
      yield* refused(
        422,
        `unknown parameter "backends": known are state, backend, event, since, limit, cursor`,
        "POST",
        path,
        `{"backends":["https://a.example.com"]}`
      )
      yield* refused(422, `invalid limit 501: a limit is a whole number from 1 to 500`, "POST", path, `{"limit":501}`)
      yield* refused(
        422,
        `invalid state "pending": what is pending is sent anyway`,
        "POST",
        path,
        `{"state":"pending"}`
      )
      yield* refused(
        422,
        `backend "https://gone.example.com" is not registered`,
        "POST",
        path,
        `{"backend":"https://gone.example.com"}`
      )
      yield* refused(400, "please provide a valid json body", "POST", path)
      yield* refused(400, "please provide a valid json body", "POST", path, "state=dead")
      assert.lengthOf((yield* StoreContents).redeliveries, 0)
    }).pipe(Effect.provide(OperatorServer())))
})

describe("a delivery that has not arrived", () => {
  const wanted = { guid: "guid-1", event: "push", attemptId: "1", failedAt: received, priority: 0 }

  it.effect("is not kept, and recovery's knowledge of it is told", () =>
    Effect.gen(function*() {
      const recoveries = yield* RecoveryStore
      const notKept = "no delivery with this GUID or id is kept"
      yield* refused(404, notKept, "GET", "/deliveries/guid-1")
      yield* recoveries.want([wanted], { anew: false })
      yield* refused(404, `${notKept}; it failed at GitHub, and is wanted (requests: 0)`, "GET", "/deliveries/guid-1")
      yield* recoveries.lead(60_000)
      yield* recoveries.asking("guid-1", 60_000)
      yield* refused(
        404,
        `${notKept}; it failed at GitHub, and is asked for (requests: 1)`,
        "GET",
        "/deliveries/guid-1"
      )
      yield* recoveries.giveUp([{ ...wanted, reason: "it is older than --recovery-max-age" }])
      yield* refused(404, `${notKept}; it failed at GitHub, and is given up (requests: 1)`, "GET", "/deliveries/guid-1")
    }).pipe(Effect.provide(OperatorServerAbove(MemoryDeliveryStore.layer()))))
})

describe("above a store", () => {
  const [a, b] = ["https://a.example.com", "https://b.example.com"] as const

  const writtenDown = (n: number): NewDelivery => {
    const { body, event, guid, headers, hookId, id, requestId } = keep(n)
    const targets = [a, b].map((key) => ({ key, url: key, held: false }))
    return {
      id,
      requestId,
      hookId,
      guid,
      event,
      headers,
      body: [body],
      bodyHash: String(n),
      method: "POST",
      target: "/",
      targets
    }
  }

  it.effect("all that is dead at a backend is sent there again, batch after batch, and nothing else", () =>
    Effect.gen(function*() {
      const store = yield* DeliveryStore
      yield* TestClock.setTime(received)
      const deliveries = Array.from({ length: 7 }, (_, n) => writtenDown(n))
      yield* store.write({ deliveries, settlements: [] })
      const attempt = {
        at: received,
        outcome: "failed",
        status: 500,
        latency: 1,
        error: undefined,
        answer: "no"
      } as const
      yield* store.write({
        deliveries: [],
        settlements: deliveries.flatMap(({ id }, n) => [
          { id, key: a, n, attempt, become: n < 5 ? "dead" as const : "rejected" as const },
          { id, key: b, n, attempt, become: "dead" as const }
        ])
      })
      assert.deepStrictEqual([yield* deadAt(a), yield* deadAt(b)], [5, 7])
      const redelivered: Array<number> = []
      let cursor: string | undefined
      do {
        const batch = JSON.stringify({ backend: a, limit: 2, cursor })
        const answer = yield* askJson("POST", "/deliveries/redeliver", batch)
        redelivered.push(answer.redelivered)
        cursor = answer.next ?? undefined
      } while (cursor !== undefined)
      assert.deepStrictEqual(redelivered, [2, 2, 1])
      assert.deepStrictEqual([yield* deadAt(a), yield* deadAt(b)], [0, 7])
      assert.deepStrictEqual(yield* store.due([a, b]), [a])
      const [shownAgain] = yield* shown("/deliveries/guid-0")
      assert.deepStrictEqual(
        shownAgain.backends.map((
          { attempts, state, url }: Record<string, Array<unknown>>
        ) => [url, state, attempts?.length]),
        [[a, "pending", 1], [b, "dead", 1]]
      )
    }).pipe(Effect.provide(OperatorServerAbove(MemoryDeliveryStore.layer()))))

  it.effect("pages hold every delivery once", () =>
    Effect.gen(function*() {
      yield* (yield* DeliveryStore).write({
        deliveries: Array.from({ length: 5 }, (_, n) => writtenDown(n)),
        settlements: []
      })
      const guids: Array<string> = []
      let cursor: string | null = ""
      while (cursor !== null) {
        const page: { deliveries: Array<{ guid: string }>; next: string | null } = yield* askJson(
          "GET",
          `/deliveries?state=pending&limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`
        )
        guids.push(...page.deliveries.map(({ guid }) => guid))
        cursor = page.next
      }
      assert.deepStrictEqual(guids, ["guid-4", "guid-3", "guid-2", "guid-1", "guid-0"])
    }).pipe(Effect.provide(OperatorServerAbove(MemoryDeliveryStore.layer()))))
})

describe("/deliveries", () => {
  it.effect("says so when the store is away", () =>
    Effect.gen(function*() {
      ;(yield* StoreContents).failure = new StoreUnavailable({ reason: "gone" })
      for (
        const [method, path, body] of [
          ["GET", "/deliveries"],
          ["GET", "/deliveries/x"],
          ["POST", "/deliveries/x/redeliver"],
          ["POST", "/deliveries/redeliver", "{}"]
        ] as const
      ) {
        const reply = yield* ask(method, path, body)
        assert.deepStrictEqual([reply.status, reply.text, reply.headers["retry-after"]], [
          503,
          "store unavailable",
          "10"
        ])
      }
      assert.lengthOf((yield* LogEntries).entries.filter(({ fields }) => fields?.["error"] === "gone"), 4)
    }).pipe(Effect.provide(OperatorServer())))

  it.effect("says nothing in the log of what it refuses", () =>
    Effect.gen(function*() {
      yield* refused(404, "no delivery with this GUID or id is kept", "GET", "/deliveries/none")
      yield* refused(404, "no delivery with this GUID or id is kept", "POST", "/deliveries/none/redeliver")
      const known = "known are state, backend, event, since, guid, limit, cursor"
      yield* refused(400, `unknown parameter "x": ${known}`, "GET", "/deliveries?x=1")
      yield* refused(400, "please provide a valid json body", "POST", "/deliveries/redeliver", "{")
      yield* refused(413, "request body too large", "POST", "/deliveries/redeliver", " ".repeat(65_537))
      yield* refused(
        422,
        `invalid state "x": a state is ${rowStates.join(", ")}`,
        "POST",
        "/deliveries/redeliver",
        `{"state":"x"}`
      )
      assert.deepStrictEqual((yield* LogEntries).entries, [])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect.each([
    ["DELETE", "/deliveries", "GET"],
    ["POST", "/deliveries", "GET"],
    ["POST", "/deliveries/x", "GET"],
    ["GET", "/deliveries/redeliver", "POST"],
    ["GET", "/deliveries/x/redeliver", "POST"]
  ])("answers %s %s with 405 and what is allowed", ([method, path, allow]) =>
    Effect.gen(function*() {
      const reply = yield* ask(method!, path!)
      assert.deepStrictEqual([reply.status, reply.headers["allow"]], [405, allow])
    }).pipe(Effect.provide(OperatorServer())))

  it.effect.each([
    "/deliveries/",
    "/deliveries//redeliver",
    "/%64eliveries/guid-1",
    "/Deliveries",
    "/deliveries/guid-1/",
    "/deliveries/guid-1/redeliver/x",
    "/deliveries/%",
    "/deliveries/guid-1;x/y",
    "//deliveries/guid-1"
  ])("%s is no path", (path) =>
    Effect.gen(function*() {
      ;(yield* StoreContents).kept.push(keep(1))
      yield* refused(404, "not found", "GET", path)
    }).pipe(Effect.provide(OperatorServer())))
})
