import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { format, GoDuration, parse } from "../../src/settings/GoDuration.ts"

const second = 1_000_000_000n

// From Go's time_test.go (parseDurationTests) and the examples of time.ParseDuration.
const accepted: ReadonlyArray<readonly [text: string, nanos: bigint]> = [
  ["0", 0n],
  ["5s", 5n * second],
  ["30s", 30n * second],
  ["1478s", 1478n * second],
  ["-5s", -5n * second],
  ["+5s", 5n * second],
  ["-0", 0n],
  ["+0", 0n],
  ["5.0s", 5n * second],
  ["5.6s", 5_600_000_000n],
  ["5.s", 5n * second],
  [".5s", second / 2n],
  ["1.0s", second],
  ["1.00s", second],
  ["1.004s", 1_004_000_000n],
  ["1.0040s", 1_004_000_000n],
  ["100.00100s", 100_001_000_000n],
  ["10ns", 10n],
  ["11us", 11_000n],
  ["12µs", 12_000n],
  ["12μs", 12_000n],
  ["13ms", 13_000_000n],
  ["14s", 14n * second],
  ["15m", 900n * second],
  ["16h", 57_600n * second],
  ["3h30m", 12_600n * second],
  ["10.5s4m", 250_500_000_000n],
  ["-2m3.4s", -123_400_000_000n],
  ["1h2m3s4ms5us6ns", 3_723_004_005_006n],
  ["39h9m14.425s", 140_954_425_000_000n],
  ["52763797000ns", 52_763_797_000n],
  ["0.3333333333333333333h", 1_200n * second],
  ["9007199254740993ns", 9_007_199_254_740_993n],
  ["9223372036854775807ns", 9_223_372_036_854_775_807n],
  ["9223372036854775.807us", 9_223_372_036_854_775_807n],
  ["9223372036s854ms775us807ns", 9_223_372_036_854_775_807n],
  ["-9223372036854775808ns", -9_223_372_036_854_775_808n],
  ["-9223372036854775.808us", -9_223_372_036_854_775_808n],
  ["-9223372036854ms775us808ns", -9_223_372_036_854_775_808n],
  ["-2562047h47m16.854775808s", -9_223_372_036_854_775_808n],
  ["0.100000000000000000000h", 360n * second],
  ["0.830103483285477580700h", 2_988_372_539_827n],
  ["1m30s", 90n * second],
  ["700ms", 700_000_000n],
  ["1.5h", 5_400n * second]
]

const refused = [
  ["", "time: invalid duration \"\""],
  ["3", "time: missing unit in duration \"3\""],
  ["-", "time: invalid duration \"-\""],
  ["s", "time: invalid duration \"s\""],
  [".", "time: invalid duration \".\""],
  ["-.", "time: invalid duration \"-.\""],
  [".s", "time: invalid duration \".s\""],
  ["+.s", "time: invalid duration \"+.s\""],
  ["1d", "time: unknown unit \"d\" in duration \"1d\""],
  ["1h-5m", "time: unknown unit \"h-\" in duration \"1h-5m\""],
  ["1 s", "time: unknown unit \" s\" in duration \"1 s\""],
  ["15S", "time: unknown unit \"S\" in duration \"15S\""],
  ["1m30", "time: missing unit in duration \"1m30\""],
  ["1.5.5s", "time: missing unit in duration \"1.5.5s\""],
  ["9223372036854775810ns", "time: invalid duration \"9223372036854775810ns\""],
  ["9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""],
  ["-9223372036854775809ns", "time: invalid duration \"-9223372036854775809ns\""],
  ["9223372036854776us", "time: invalid duration \"9223372036854776us\""],
  ["3000000h", "time: invalid duration \"3000000h\""],
  ["9223372036854ms775us808ns", "time: invalid duration \"9223372036854ms775us808ns\""]
] as const

// From durationTests.
const written: ReadonlyArray<readonly [nanos: bigint, text: string]> = [
  [0n, "0s"],
  [1n, "1ns"],
  [1_100n, "1.1µs"],
  [2_200_000n, "2.2ms"],
  [3_300_000_000n, "3.3s"],
  [245n * second, "4m5s"],
  [245_001_000_000n, "4m5.001s"],
  [18_367_001_000_000n, "5h6m7.001s"],
  [480_000_000_001n, "8m0.000000001s"],
  [3_600n * second, "1h0m0s"],
  [15n * second, "15s"],
  [90n * second, "1m30s"],
  [-90n * second, "-1m30s"],
  [9_223_372_036_854_775_807n, "2562047h47m16.854775807s"],
  [-9_223_372_036_854_775_808n, "-2562047h47m16.854775808s"]
]

describe("parse", () => {
  it.each(accepted)("reads %s as Go does", (text, nanos) => {
    assert.strictEqual(Duration.toNanosUnsafe(Result.getOrThrow(parse(text))), nanos)
  })

  it.each(refused)("refuses %j as Go does", (text, message) => {
    assert.deepStrictEqual(parse(text), Result.fail(message))
  })
})

describe("format", () => {
  it.each(written)("writes %s ns as %s", (nanos, text) => {
    assert.strictEqual(format(Duration.nanos(nanos)), text)
  })

  it.prop(
    "what is written is read again",
    { nanos: Schema.BigInt.check(Schema.isBetweenBigInt({ minimum: -(1n << 63n), maximum: (1n << 63n) - 1n })) },
    ({ nanos }) => {
      const text = format(Duration.nanos(nanos))
      assert.strictEqual(Duration.toNanosUnsafe(Result.getOrThrow(parse(text))), nanos, text)
    }
  )
})

describe("GoDuration", () => {
  it("decodes and encodes", () => {
    assert.strictEqual(Duration.toMillis(Schema.decodeSync(GoDuration)("1m30s")), 90_000)
    assert.strictEqual(Schema.encodeSync(GoDuration)(Duration.millis(700)), "700ms")
  })

  it("says what Go says", () => {
    assert.throws(() => Schema.decodeSync(GoDuration)("5x"), "time: unknown unit \"x\" in duration \"5x\"")
  })
})
