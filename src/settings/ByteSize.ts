/**
 * Amounts of memory as people write them: `26214400`, `25MiB`, `25 MB`.
 *
 * **Details**
 *
 * `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024, `kB`, `MB`, `GB`, `TB` powers of 1000. The case of a unit means
 * nothing.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"

const bytesIn = new Map([
  ["", 1n],
  ["b", 1n],
  ["kb", 10n ** 3n],
  ["mb", 10n ** 6n],
  ["gb", 10n ** 9n],
  ["tb", 10n ** 12n],
  ["kib", 1n << 10n],
  ["mib", 1n << 20n],
  ["gib", 1n << 30n],
  ["tib", 1n << 40n]
])

/**
 * Reads a size in bytes: a whole, safe integer from 0 on. A fraction is allowed if it comes to whole bytes (`1.5KiB`).
 */
export const parse = (text: string): Result.Result<number, string> => {
  const match = /^(\d{1,16})(?:\.(\d{1,16}))? ?([a-z]*)$/i.exec(text)
  const unit = bytesIn.get(match?.[3]?.toLowerCase() ?? "")
  if (match === null || unit === undefined) return Result.fail("a size is a number of bytes, or one with a unit: 25MiB")
  const fraction = match[2] ?? ""
  const scale = 10n ** BigInt(fraction.length)
  const scaled = BigInt(`${match[1]}${fraction}`) * unit
  if (scaled % scale !== 0n) return Result.fail("a size is a whole number of bytes")
  const bytes = Number(scaled / scale)
  return Number.isSafeInteger(bytes) ? Result.succeed(bytes) : Result.fail("a size is at most 2^53 - 1 bytes")
}

/** Writes a size with the largest unit of 1024 that divides it: `25MiB`, `1025B`. */
export const format = (bytes: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  let size = bytes
  let step = 0
  while (size !== 0 && size % 1024 === 0 && step < units.length - 1) {
    size /= 1024
    step += 1
  }
  return `${size}${units[step]}`
}

/** A number of bytes, decoded from its text. */
export const ByteSize = Schema.String.pipe(Schema.decodeTo(
  Schema.Int,
  SchemaTransformation.transformEffect({
    decode: (text, options) =>
      Result.match(parse(text), {
        onFailure: (message) => Effect.fail(new SchemaIssue.InvalidValue({ message }, text, options)),
        onSuccess: Effect.succeed
      }),
    encode: (bytes) => Effect.succeed(format(bytes))
  })
))
