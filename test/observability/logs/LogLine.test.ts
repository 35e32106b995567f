import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { type LogFields, SharedFields } from "../../../src/domain/LogEntry.ts"
import { cut, makeJson, makePretty } from "../../../src/observability/logs/LogLine.ts"

const NOON = Date.UTC(2026, 10, 23, 12, 0, 5, 7)

const json = makeJson()
const plain = makePretty({ colors: false })
const coloured = makePretty({ colors: true })

const parse = (line: string): Record<string, unknown> => JSON.parse(line)

/** Texts of what breaks lines and terminals, of astral characters and of halves of them, often longer than the cut. */
const nasty = Arbitrary.map(
  Arbitrary.array(
    Arbitrary.all([
      Arbitrary.schema(Schema.Literals([
        "",
        "plain words ",
        "\n",
        "\r\n",
        "\u0000",
        "\u001b[31m",
        "\u007f",
        "\u009b2J",
        "\u0085",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\"",
        "\\",
        "\\ud800",
        "=",
        "é",
        "😀",
        "\ud83d",
        "\ude00"
      ])),
      Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))),
      Arbitrary.schema(Schema.Literals([1, 1, 1, 2, 60]))
    ]),
    { maxLength: 40 }
  ),
  (pieces) => pieces.map(([piece, unit, times]) => (piece + String.fromCharCode(unit)).repeat(times)).join("")
)

const characters = (text: string) => Array.from(text)

// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const STEERING = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/

describe("cut", () => {
  it("counts characters, not code units", () => {
    assert.strictEqual(cut("😀😀😀", 2), "😀😀")
    assert.strictEqual(cut("a😀b", 2), "a😀")
    assert.strictEqual(cut("😀".repeat(256), 256), "😀".repeat(256))
    assert.strictEqual(cut("abc", 3), "abc")
    assert.strictEqual(cut("abcd", 3), "abc")
  })

  it.prop("keeps exactly the first characters, never half of one", [nasty], ([text]) => {
    assert.strictEqual(cut(text, 7), characters(text).slice(0, 7).join(""))
    assert.strictEqual(cut(text, 256), characters(text).slice(0, 256).join(""))
  })
})

describe("a JSON line", () => {
  it("has the words of the original, then the fields in their order", () => {
    assert.strictEqual(
      json(NOON, "info", "proxied request", { status: 202, backend: "https://a", retried: false, gone: undefined }),
      "{\"ts\":\"2026-11-23T12:00:05.007Z\",\"level\":\"info\",\"msg\":\"proxied request\",\"service\":\"sprayproxy\"," +
        "\"audit\":\"true\",\"status\":202,\"backend\":\"https://a\",\"retried\":false}\n"
    )
  })

  it("needs no fields", () => {
    const bare = "{\"ts\":\"2026-11-23T12:00:05.007Z\",\"level\":\"warn\",\"msg\":\"draining\"," +
      "\"service\":\"sprayproxy\",\"audit\":\"true\"}\n"
    assert.strictEqual(json(NOON, "warn", "draining"), bare)
    assert.strictEqual(json(NOON, "warn", "draining", {}), bare)
    assert.strictEqual(json(NOON, "warn", "draining", { gone: undefined }), bare)
  })

  it.prop(
    "has the time of its entry, whatever the entry before had",
    [Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: -5000, maximum: 5000 }))))],
    ([offsets]) => {
      for (const millis of offsets.map((offset) => NOON + offset)) {
        assert.strictEqual(parse(json(millis, "info", "tick"))["ts"], new Date(millis).toISOString())
      }
    }
  )

  it("says null for a number that JSON has no word for", () => {
    assert.include(json(NOON, "info", "m", { rate: Number.NaN, next: 1 }), "\"rate\":null,\"next\":1}")
  })

  it("cuts values at 256 characters, a backend's answer at 1024, a cause at 2048", () => {
    const long = "x".repeat(5000)
    const line = parse(json(NOON, "info", long, { event: long, answer: long, error: long }))
    assert.strictEqual(line["event"], "x".repeat(256))
    assert.strictEqual(line["answer"], "x".repeat(1024))
    assert.strictEqual(line["error"], "x".repeat(2048))
    assert.strictEqual(line["msg"], "x".repeat(1024))
    assert.strictEqual(parse(json(NOON, "info", "m", { event: "x".repeat(257) }))["event"], "x".repeat(256))
  })

  it("escapes what JSON leaves raw, also in a name", () => {
    assert.include(json(NOON, "info", "m", { event: "a\u007fb" }), "\"a\\u007fb\"")
    assert.include(json(NOON, "info", "m", { "a\ud800": 1 }), "\"a\ufffd\":1")
    assert.include(
      json(NOON, "info", "m", { event: "a\u007fb\u009b2J\u2028\u202e" }),
      "a\\u007fb\\u009b2J\\u2028\\u202e"
    )
    assert.include(json(NOON, "info", "m", { "a\u2028b": 1 }), "\"a\\u2028b\":1")
  })

  it.prop(
    "is exactly one line of printable text that gives the values back",
    [nasty, nasty, nasty],
    ([message, first, second]) => {
      const fields: LogFields = { event: first, status: 202, answer: second }
      const line = json(NOON, "info", message, fields)
      assert.strictEqual(line.at(-1), "\n")
      assert.notMatch(line.slice(0, -1), STEERING)
      assert.strictEqual(Buffer.from(line).toString(), line, "survives UTF-8")
      assert.notMatch(line, /(^|[^\\])(\\\\)*\\ud[89a-f]/, "no escaped half of a surrogate pair")
      assert.deepStrictEqual(parse(line), {
        ts: "2026-11-23T12:00:05.007Z",
        level: "info",
        msg: characters(message).slice(0, 1024).join("").toWellFormed(),
        service: "sprayproxy",
        audit: "true",
        event: characters(first).slice(0, 256).join("").toWellFormed(),
        status: 202,
        answer: characters(second).slice(0, 1024).join("").toWellFormed()
      })
    },
    { arbitrary: { runs: 500 } }
  )

  it("renders messages beyond those it remembers", () => {
    const renderer = makeJson()
    for (let index = 0; index < 1000; index++) {
      assert.strictEqual(parse(renderer(NOON, "info", `message ${index}`))["msg"], `message ${index}`)
      assert.strictEqual(parse(renderer(NOON, "error", `message ${index}`))["level"], "error")
    }
  })
})

const shared = () => new SharedFields({ "request-id": "9a5a", event: "push", trace_id: undefined })

describe("fields that lines share", () => {
  it("come first in a JSON line, before the line's own", () => {
    assert.strictEqual(
      json(NOON, "info", "m", { status: 202, gone: undefined }, shared()),
      "{\"ts\":\"2026-11-23T12:00:05.007Z\",\"level\":\"info\",\"msg\":\"m\",\"service\":\"sprayproxy\",\"audit\":\"true\"," +
        "\"request-id\":\"9a5a\",\"event\":\"push\",\"status\":202}\n"
    )
  })

  it("come first in a pretty line, before the line's own", () => {
    assert.strictEqual(
      plain(NOON, "info", "m", { status: 202, gone: undefined }, shared()),
      "12:00:05.007 INFO  m  request-id=9a5a event=push status=202\n"
    )
  })

  it.each([
    { what: "no fields of its own", fields: undefined, of: { event: "push" }, same: { event: "push" } },
    { what: "none that is defined", fields: { gone: undefined }, of: { event: "push" }, same: { event: "push" } },
    { what: "nothing to share", fields: { status: 202 }, of: {}, same: { status: 202 } },
    { what: "nothing defined to share", fields: { status: 202 }, of: { gone: undefined }, same: { status: 202 } },
    { what: "neither", fields: undefined, of: {}, same: undefined }
  ])("read as a line's own where it has $what", ({ fields, of, same }) => {
    for (const render of [json, plain]) {
      assert.strictEqual(render(NOON, "info", "m", fields, new SharedFields(of)), render(NOON, "info", "m", same))
    }
  })

  it("are the same in each of the lines, whatever else these say", () => {
    const common = shared()
    const lines = [
      json(NOON, "info", "first", { status: 202 }, common),
      json(NOON + 1, "error", "second", { status: 502, answer: "a\u007fb" }, common),
      json(NOON + 2, "warn", "third", undefined, common)
    ]
    assert.deepStrictEqual(lines.map(parse), [
      { ...parse(json(NOON, "info", "first")), "request-id": "9a5a", event: "push", status: 202 },
      {
        ...parse(json(NOON + 1, "error", "second")),
        "request-id": "9a5a",
        event: "push",
        status: 502,
        answer: "a\u007fb"
      },
      { ...parse(json(NOON + 2, "warn", "third")), "request-id": "9a5a", event: "push" }
    ])
  })

  it("are cut like others", () => {
    const long = "x".repeat(5000)
    const common = new SharedFields({ event: long, answer: long, error: long })
    for (const line of [json(NOON, "info", "m", undefined, common), json(NOON, "info", "m", { n: 1 }, common)]) {
      const { answer, error, event } = parse(line)
      assert.deepStrictEqual([event, answer, error], ["x".repeat(256), "x".repeat(1024), "x".repeat(2048)])
    }
    assert.strictEqual(
      plain(NOON, "info", "m", undefined, new SharedFields({ event: long })),
      `12:00:05.007 INFO  m  event=${"x".repeat(256)}\n`
    )
  })

  it.prop(
    "are as harmless as others: one line of printable text that gives the values back",
    [nasty, nasty, nasty],
    ([first, second, own]) => {
      const common = new SharedFields({ delivery: first, [`event${second}`]: second, method: "POST" })
      const fields: LogFields = { answer: own }
      for (const render of [json, plain]) {
        const line = render(NOON, "info", "m", fields, common)
        // The shared ones may be rendered once for all lines.
        assert.strictEqual(render(NOON, "info", "m", fields, common), line)
        assert.strictEqual(render(NOON, "info", "m", { ...common.fields, ...fields }), line)
        assert.strictEqual(line.at(-1), "\n")
        assert.notMatch(line.slice(0, -1), STEERING)
        assert.strictEqual(Buffer.from(line).toString(), line, "survives UTF-8")
      }
      const line = json(NOON, "info", "m", fields, common)
      assert.notMatch(line, /(^|[^\\])(\\\\)*\\ud[89a-f]/, "no escaped half of a surrogate pair")
      assert.deepStrictEqual(parse(line), {
        ...parse(json(NOON, "info", "m")),
        delivery: characters(first).slice(0, 256).join("").toWellFormed(),
        [`event${second.toWellFormed()}`]: characters(second).slice(0, 256).join("").toWellFormed(),
        method: "POST",
        answer: characters(own).slice(0, 1024).join("").toWellFormed()
      })
    },
    { arbitrary: { runs: 500 } }
  )
})

describe("a pretty line", () => {
  it("reads as time, level, message and fields", () => {
    assert.strictEqual(
      plain(NOON, "info", "proxied request", { backend: "https://a", status: 202, gone: undefined }),
      "12:00:05.007 INFO  proxied request  backend=https://a status=202\n"
    )
  })

  it("quotes a value whose end would not be seen", () => {
    assert.strictEqual(
      plain(NOON, "warn", "refused", { a: "two words", b: "", c: "x=y", d: "say \"hi\"" }),
      "12:00:05.007 WARN  refused  a=\"two words\" b=\"\" c=\"x=y\" d=\"say \\\"hi\\\"\"\n"
    )
  })

  it("colours the level", () => {
    assert.include(coloured(NOON, "error", "m"), "\u001b[31mERROR\u001b[0m")
    assert.notInclude(plain(NOON, "error", "m"), "\u001b")
  })

  it.prop("has no raw control character but its own colours and the newline", [nasty, nasty], ([message, value]) => {
    const line = plain(NOON, "info", message, { event: value })
    assert.strictEqual(line.at(-1), "\n")
    assert.notMatch(line.slice(0, -1), STEERING)
    assert.isTrue(line.isWellFormed())
    // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
    assert.strictEqual(coloured(NOON, "info", message, { event: value }).replaceAll(/\u001b\[\d+m/g, ""), line)
  })
})
