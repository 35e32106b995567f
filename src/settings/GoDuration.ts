/**
 * Durations as Go writes them: `15s`, `1m30s`, `700ms`, `1.5h`.
 *
 * **Details**
 *
 * `parse` follows `time.ParseDuration` and `format` follows `Duration.String`, bit for bit. So a manifest that was
 * written for the original sprayproxy, a Go program, means the same here. Both functions know nanoseconds, and the
 * range of Go's int64 (about 292 years either way).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"

const nanosIn = new Map([
  ["ns", 1n],
  ["us", 1_000n],
  ["µs", 1_000n], // U+00B5, the micro sign
  ["μs", 1_000n], // U+03BC, the Greek letter mu
  ["ms", 1_000_000n],
  ["s", 1_000_000_000n],
  ["m", 60_000_000_000n],
  ["h", 3_600_000_000_000n]
])

const maxInt64 = (1n << 63n) - 1n

/** Reads a Go duration, negative ones too. The failure is Go's own message: `time: unknown unit "x" in duration "5x"`. */
export const parse = (text: string): Result.Result<Duration.Duration, string> => {
  const quoted = JSON.stringify(text)
  const invalid = Result.fail(`time: invalid duration ${quoted}`)
  const negative = text.startsWith("-")
  let rest = negative || text.startsWith("+") ? text.slice(1) : text
  if (rest === "0") return Result.succeed(Duration.zero)
  if (rest === "") return invalid
  let total = 0n
  while (rest !== "") {
    const [part = "", whole = "", fraction = "", unit = ""] = /^(\d*)(?:\.(\d*))?([^\d.]*)/.exec(rest) ?? []
    if (whole === "" && fraction === "") return invalid
    if (unit === "") return Result.fail(`time: missing unit in duration ${quoted}`)
    const nanos = nanosIn.get(unit)
    if (nanos === undefined) {
      return Result.fail(`time: unknown unit ${JSON.stringify(unit)} in duration ${quoted}`)
    }
    total += BigInt(whole) * nanos + fractionNanos(fraction, nanos)
    // Go's lowest int64 has no positive counterpart: only "-…" reaches 2^63.
    if (total > maxInt64 + 1n) return invalid
    rest = rest.slice(part.length)
  }
  if (total > maxInt64 && !negative) return invalid
  return Result.succeed(fromNanos(negative ? -total : total))
}

/** Writes a finite duration as Go does: `1m30s`, `1h0m0s`, `1.5ms`, `0s`. */
export const format = (duration: Duration.Duration): string => {
  const nanos = Duration.toNanosUnsafe(duration)
  if (nanos === 0n) return "0s"
  const sign = nanos < 0n ? "-" : ""
  const size = nanos < 0n ? -nanos : nanos
  if (size < 1_000n) return `${sign}${size}ns`
  if (size < 1_000_000n) return `${sign}${decimal(size, 3)}µs`
  if (size < 1_000_000_000n) return `${sign}${decimal(size, 6)}ms`
  const minutes = size / 60_000_000_000n
  const seconds = `${decimal(size % 60_000_000_000n, 9)}s`
  if (minutes === 0n) return sign + seconds
  if (minutes < 60n) return `${sign}${minutes}m${seconds}`
  return `${sign}${minutes / 60n}h${minutes % 60n}m${seconds}`
}

/** A `Duration` from Go's notation. */
export const GoDuration = Schema.String.pipe(Schema.decodeTo(
  Schema.Duration,
  SchemaTransformation.transformEffect({
    decode: (text, options) =>
      Result.match(parse(text), {
        onFailure: (message) => Effect.fail(new SchemaIssue.InvalidValue({ message }, text, options)),
        onSuccess: Effect.succeed
      }),
    encode: (duration) => Effect.sync(() => format(duration))
  })
))

/** Calculates in floating point as Go does, so that long fractions are cut where Go cuts them. */
const fractionNanos = (digits: string, nanos: bigint): bigint => {
  let value = 0n
  let scale = 1
  for (const digit of digits) {
    const next = value * 10n + BigInt(digit)
    if (next > maxInt64 + 1n) break
    value = next
    scale *= 10
  }
  return value === 0n ? 0n : BigInt(Math.trunc(Number(value) * (Number(nanos) / scale)))
}

/** Whole milliseconds stay numbers, because Effect compares and prints them faster than nanoseconds. */
const fromNanos = (nanos: bigint): Duration.Duration =>
  nanos % 1_000_000n === 0n ? Duration.millis(Number(nanos / 1_000_000n)) : Duration.nanos(nanos)

const decimal = (value: bigint, places: number): string => {
  const digits = value.toString().padStart(places + 1, "0")
  const fraction = digits.slice(-places).replace(/0+$/, "")
  return digits.slice(0, -places) + (fraction === "" ? "" : `.${fraction}`)
}
