import { describe, expect, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { PassThrough } from "node:stream"
import type { AttemptReport } from "../../../src/domain/AttemptReport.ts"
import { parse } from "../../../src/domain/Backend.ts"
import { Body } from "../../../src/domain/Body.ts"
import type { Delivery, DeliveryTrace } from "../../../src/domain/Delivery.ts"
import { outcomes } from "../../../src/domain/Outcome.ts"
import { targetFields } from "../../../src/observability/logs/DeliveryJson.ts"
import { DeliveryLog, seconds } from "../../../src/observability/logs/DeliveryLog.ts"
import { makeJson } from "../../../src/observability/logs/LogLine.ts"
import { Log, LogEntries } from "../../../src/observability/logs/Logging.ts"
import { Settings } from "../../../src/settings/Settings.ts"

const backend = Result.getOrThrow(parse("https://PAC.example.com:8443/base", "static"))

const body = "the payload"

const delivery: Delivery = {
  requestId: "9a5a5a3e",
  guid: "72d3162e-cc78-11e3-81ab-4c9367dc0958",
  event: "push",
  method: "POST",
  target: "/proxy?x=1",
  forwardedTarget: "/?x=1",
  headers: ["X-Hub-Signature-256", "sha256=the signature", "Authorization", "the credentials"],
  body: new Body([Buffer.from(body)], body.length)
}

const report: AttemptReport = {
  outcome: "delivered",
  status: 202,
  error: undefined,
  answer: undefined,
  latency: 12.3456789,
  requests: 1
}

const described = {
  "request-id": "9a5a5a3e",
  delivery: "72d3162e-cc78-11e3-81ab-4c9367dc0958",
  event: "push",
  method: "POST",
  path: "/proxy",
  query: "x=1"
}

const written = Effect.fnUntraced(
  function*(write: (log: DeliveryLog["Service"]) => void) {
    write(yield* DeliveryLog)
    return (yield* LogEntries).entries
  },
  Effect.provide(Layer.provideMerge(DeliveryLog.layer, Log.layerTest))
)

describe("the line of an attempt", () => {
  it.effect("says what was sent where and what came of it", () =>
    Effect.gen(function*() {
      expect(yield* written((log) => log.attempted(delivery, backend, report))).toEqual([{
        level: "info",
        message: "proxied request",
        fields: {
          ...described,
          backend: "pac.example.com:8443/base",
          status: 202,
          latency: 0.012346,
          outcome: "delivered",
          error: undefined,
          tries: undefined,
          answer: undefined
        }
      }])
    }))

  it.effect("names the tries when there was more than one, and what a backend answered", () =>
    Effect.gen(function*() {
      const failed: AttemptReport = { ...report, outcome: "failed", status: 503, answer: "no pod", requests: 3 }
      expect(yield* written((log) => log.attempted(delivery, backend, failed))).toMatchObject([{
        level: "error",
        message: "proxied request",
        fields: { status: 503, outcome: "failed", answer: "no pod", tries: 3 }
      }])
    }))

  it.effect("is followed by a warning where a form was rejected", () =>
    Effect.gen(function*() {
      const form: Delivery = { ...delivery, headers: ["content-type", "application/x-www-form-urlencoded"] }
      const rejected: AttemptReport = { ...report, outcome: "rejected", status: 400 }
      const entries = yield* written((log) => log.attempted(form, backend, rejected))
      expect(entries.map(({ level, message }) => [level, message])).toEqual([
        ["info", "proxied request"],
        ["warn", expect.stringContaining("a form was rejected")]
      ])
      expect(entries[1]!.fields).toEqual({ ...described, backend: "pac.example.com:8443/base" })
    }))

  it.effect("is a proxy error when there was no answer", () =>
    Effect.gen(function*() {
      const refused: AttemptReport = { ...report, outcome: "unreachable", status: undefined, error: "ECONNREFUSED" }
      expect(yield* written((log) => log.attempted(delivery, backend, refused))).toMatchObject([{
        level: "error",
        message: "proxy error",
        fields: { status: undefined, outcome: "unreachable", error: "ECONNREFUSED" }
      }])
    }))

  it.effect("is an error for every outcome but those that GitHub need not send again", () =>
    Effect.gen(function*() {
      const entries = yield* written((log) => {
        for (const outcome of outcomes) log.attempted(delivery, backend, { ...report, outcome })
      })
      expect(entries.map(({ level }) => level)).toEqual(["info", "info", "error", "error", "error", "error"])
    }))
})

describe("the line of a reply", () => {
  it.effect("says what GitHub was told", () =>
    Effect.gen(function*() {
      const entries = yield* written((log) => {
        log.answered(delivery, 200, "proxied", 0.5)
        log.answered(delivery, 502, "failed", 0.5)
      })
      expect(entries).toEqual([
        {
          level: "info",
          message: "delivery answered",
          fields: { ...described, status: 200, latency: 0.5, outcome: "proxied" }
        },
        {
          level: "error",
          message: "delivery answered",
          fields: { ...described, status: 502, latency: 0.5, outcome: "failed" }
        }
      ])
    }))

  it.effect("says so when its sender has closed its side", () =>
    Effect.gen(function*() {
      expect(yield* written((log) => log.senderClosed(delivery, 10))).toEqual([{
        level: "warn",
        message: "client hung up or closed its side before the reply, forwarding goes on",
        fields: { ...described, latency: 10 }
      }])
    }))

  it.effect("says so when nobody waits for it any more", () =>
    Effect.gen(function*() {
      expect(yield* written((log) => log.hungUp(delivery, 10))).toEqual([{
        level: "warn",
        message: "client hung up before the reply, forwarding goes on",
        fields: { ...described, latency: 10 }
      }])
    }))
})

/** The same as the JSON that is printed. */
const printed = Effect.fnUntraced(function*(write: (log: DeliveryLog["Service"]) => void) {
  const sink = new PassThrough()
  yield* Effect.map(DeliveryLog, write).pipe(
    Effect.provide(
      DeliveryLog.layer.pipe(
        Layer.provide(Log.layerSink(sink)),
        Layer.provide(Settings.layerFrom({ logFormat: "json" }))
      )
    )
  )
  return String(sink.read()).split("\n").slice(0, -1)
})

const named = (guid: string, event: string | undefined): Delivery => ({
  ...delivery,
  guid,
  event,
  requestId: `the ${guid}'s`,
  target: `/proxy?${guid}`,
  logged: undefined
})

describe("all lines of a delivery", () => {
  const trace: DeliveryTrace = {
    traceId: "0af7651916cd43dd8448eb211c80319c",
    spanId: "b7ad6b7169203331",
    verifying: () => {},
    verified: () => {},
    attempt: () => ({ headers: [], end: () => {} })
  }
  const deliveries = [named("one", "push"), named("other", undefined)]
  const failed: AttemptReport = { ...report, outcome: "unreachable", status: undefined, error: "ECONNREFUSED" }

  it.effect("carry what describes it, though those of another come in between", () =>
    Effect.gen(function*() {
      const lines = yield* printed((log) => {
        for (const each of deliveries) log.attempted(each, backend, report)
        for (const each of deliveries) log.attempted(each, backend, failed)
        for (const each of deliveries) log.hungUp(each, 10)
        for (const each of deliveries) log.answered(each, 200, "proxied", 0.5)
      })
      const seen = lines.map((line) => {
        const fields = JSON.parse(line)
        return ["msg", "request-id", "delivery", "event", "method", "path", "query"].map((key) => fields[key])
      })
      const messages = [
        "proxied request",
        "proxy error",
        "client hung up before the reply, forwarding goes on",
        "delivery answered"
      ]
      expect(seen).toEqual(messages.flatMap((message) => [
        [message, "the one's", "one", "push", "POST", "/proxy", "one"],
        [message, "the other's", "other", undefined, "POST", "/proxy", "other"]
      ]))
    }))

  it.effect("name its trace where it has one, before what is the line's own", () =>
    Effect.gen(function*() {
      const traced: Delivery = { ...delivery, trace, logged: undefined }
      const lines = yield* printed((log) => {
        log.attempted(traced, backend, report)
        log.answered(traced, 200, "proxied", 0.5)
      })
      const own = ["backend", "status"]
      for (const [at, line] of lines.entries()) {
        const fields = JSON.parse(line)
        expect(fields).toMatchObject({ trace_id: trace.traceId, span_id: trace.spanId })
        // After what every line has.
        expect(Object.keys(fields).slice(5, 14)).toEqual([
          "request-id",
          "delivery",
          "event",
          "trace_id",
          "span_id",
          "method",
          "path",
          "query",
          own[at]
        ])
      }
    }))
})

const afterTime = (line: string) => line.slice(line.indexOf(",")).trimEnd()

describe("a line that is put together from parts", () => {
  const text = Schema.Union([Schema.Literals(["", "push", "d\u00e9j\u00e0", "a \"quote\"", "\u20ac"]), Schema.String])
  const statuses = Schema.Int.check(Schema.isBetween({ minimum: 200, maximum: 599 }))
  it.effect.prop(
    "is what it would be as a whole",
    {
      status: Arbitrary.schema(Schema.UndefinedOr(statuses)),
      latency: Arbitrary.schema(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 20_000 }))),
      outcome: Arbitrary.schema(Schema.Literals(outcomes)),
      error: Arbitrary.schema(Schema.UndefinedOr(Schema.String)),
      requests: Arbitrary.schema(Schema.Literals([0, 1, 2])),
      answer: Arbitrary.schema(Schema.UndefinedOr(Schema.String)),
      path: Arbitrary.schema(text),
      target: Arbitrary.schema(text),
      guid: Arbitrary.schema(Schema.UndefinedOr(text)),
      event: Arbitrary.schema(Schema.UndefinedOr(text))
    },
    ({ event, guid, path, target, ...varied }) =>
      Effect.gen(function*() {
        const other = { ...backend, name: `pac.example.com/${path}` }
        const write = (log: DeliveryLog["Service"]) => {
          const one: Delivery = { ...delivery, guid, event, target: `/${target}`, logged: undefined }
          log.attempted(one, other, varied)
          log.answered(one, varied.status ?? 200, "proxied", seconds(varied.latency))
        }
        const lines = yield* printed(write)
        const entries = yield* written(write)
        const json = makeJson()
        expect(lines.map(afterTime)).toEqual(
          entries.map(({ fields, level, message }) => afterTime(json(0, level, message, fields)))
        )
      })
  )
})

describe("no line", () => {
  it.effect("has a signature, a credential or the payload in it", () =>
    Effect.gen(function*() {
      const entries = yield* written((log) => {
        log.attempted(delivery, backend, report)
        log.answered(delivery, 200, "proxied", 0.5)
        log.hungUp(delivery, 10)
      })
      expect(entries).toHaveLength(3)
      expect(JSON.stringify(entries)).not.toMatch(/the (payload|signature|credentials)/)
    }))
})

describe("fields", () => {
  it("take a target apart at its first question mark", () => {
    expect(targetFields("/proxy")).toEqual({ path: "/proxy", query: "" })
    expect(targetFields("/?")).toEqual({ path: "/", query: "" })
    expect(targetFields("/proxy?a=1?b=2")).toEqual({ path: "/proxy", query: "a=1?b=2" })
  })

  it("show times in seconds, to the microsecond", () => {
    expect([0, 1, 1.5, 0.0004, 0.0005, 12_345.6789].map(seconds)).toEqual([0, 0.001, 0.0015, 0, 0.000001, 12.345679])
  })
})
