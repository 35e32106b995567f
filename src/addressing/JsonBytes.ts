/** The bytes of JSON (RFC 8259): which kinds there are, and which may follow each other in a number. */
import { Buffer } from "node:buffer"

/** Said in place of the next position, or of a number's next part. */
export const refused = -1

const codeOf = (character: string): number => character.charCodeAt(0)

export const quote = codeOf(`"`)
export const backslash = codeOf("\\")
export const letterU = codeOf("u")
export const colon = codeOf(":")
export const comma = codeOf(",")
export const braceOpens = codeOf("{")
export const braceCloses = codeOf("}")
export const bracketOpens = codeOf("[")
export const bracketCloses = codeOf("]")

export const literals = new Map(
  ["true", "false", "null"].map((word) => [codeOf(word), Uint8Array.from(Buffer.from(word))] as const)
)

/** The kinds of bytes, as bits. `plain`: it stands for itself in a text. `escaped`: it may follow a backslash. */
export const kind = { space: 1, plain: 2, escaped: 4, hex: 8, digit: 16 } as const

export const kinds = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte)
  return (" \t\n\r".includes(character) ? kind.space : 0) |
    (byte >= 0x20 && byte !== quote && byte !== backslash ? kind.plain : 0) |
    (`"\\/bfnrtu`.includes(character) ? kind.escaped : 0) |
    (/[\da-f]/i.test(character) ? kind.hex : 0) |
    (/\d/.test(character) ? kind.digit : 0)
})

/** The parts of a number. */
export const number = {
  start: 0,
  minus: 1,
  zero: 2,
  whole: 3,
  point: 4,
  fraction: 5,
  e: 6,
  sign: 7,
  exponent: 8
} as const

/** The part that begins, or goes on, with this byte. `refused`: none. */
export const afterInNumber = (part: number, byte: number): number => {
  if (kinds[byte]! & kind.digit) {
    if (part <= number.minus) return byte === zero ? number.zero : number.whole
    if (part === number.zero) return refused
    if (part === number.whole) return number.whole
    return part <= number.fraction ? number.fraction : number.exponent
  }
  switch (byte) {
    case minus:
      return part === number.start ? number.minus : part === number.e ? number.sign : refused
    case plus:
      return part === number.e ? number.sign : refused
    case point:
      return part === number.zero || part === number.whole ? number.point : refused
    case smallE:
    case largeE:
      return part === number.zero || part === number.whole || part === number.fraction ? number.e : refused
    default:
      return refused
  }
}

export const numberMayEnd = (part: number): boolean =>
  part === number.zero || part === number.whole || part === number.fraction || part === number.exponent

const zero = codeOf("0")
const minus = codeOf("-")
const plus = codeOf("+")
const point = codeOf(".")
const smallE = codeOf("e")
const largeE = codeOf("E")
