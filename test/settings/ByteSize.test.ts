import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { ByteSize, format, parse } from "../../src/settings/ByteSize.ts"

describe("parse", () => {
  it.each(
    [
      ["0", 0],
      ["26214400", 26_214_400],
      ["1B", 1],
      ["64KiB", 65_536],
      ["25MiB", 26_214_400],
      ["10GiB", 10_737_418_240],
      ["1TiB", 1_099_511_627_776],
      ["1kB", 1000],
      ["25MB", 25_000_000],
      ["2GB", 2_000_000_000],
      ["1TB", 1_000_000_000_000],
      ["25 MiB", 26_214_400],
      ["25mib", 26_214_400],
      ["25MIB", 26_214_400],
      ["1.5KiB", 1536],
      ["0.5kb", 500],
      ["9007199254740991", 9_007_199_254_740_991]
    ] as const
  )("%s is %i bytes", (text, bytes) => {
    assert.deepStrictEqual(parse(text), Result.succeed(bytes))
  })

  it.each([
    "",
    " ",
    "-1",
    "+1",
    "1.5",
    "1.0001KiB",
    "MiB",
    "25M",
    "25Mi",
    "25XB",
    "25  MiB",
    " 25MiB",
    "25MiB ",
    "1e3",
    "0x10",
    "Infinity",
    "NaN",
    "1_000",
    "9007199254740992",
    "8192TiB",
    "99999999999999999999"
  ])("refuses %j", (text) => {
    assert.isTrue(Result.isFailure(parse(text)))
  })
})

describe("format", () => {
  it.each(
    [[0, "0B"], [1, "1B"], [1024, "1KiB"], [1025, "1025B"], [26_214_400, "25MiB"], [1_610_612_736, "1536MiB"]] as const
  )("writes %i as %s", (bytes, text) => {
    assert.strictEqual(format(bytes), text)
  })

  it.prop(
    "what is written is read again",
    {
      count: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8191 })),
      step: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 }))
    },
    ({ count, step }) => {
      const bytes = count * 1024 ** step
      assert.deepStrictEqual(parse(format(bytes)), Result.succeed(bytes))
    }
  )
})

describe("ByteSize", () => {
  it("decodes and encodes", () => {
    assert.strictEqual(Schema.decodeSync(ByteSize)("25MiB"), 26_214_400)
    assert.strictEqual(Schema.encodeSync(ByteSize)(65_536), "64KiB")
  })
})
