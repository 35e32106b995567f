/**
 * The field `payload` of a form (`application/x-www-form-urlencoded`, as the URL standard reads it), decoded as its bytes
 * pass.
 *
 * It is not read with `URLSearchParams`, nor with a parser of forms: these decode a field as a whole, which for 25 MiB holds
 * the event loop for too long.
 */
import { Buffer } from "node:buffer"

const ampersand = 0x26
const equals = 0x3d
const percent = 0x25
const plus = 0x2b
const space = 0x20

const sought = Buffer.from("payload")

export class FormPayload {
  /** Decoded bytes of the present field's name. One more than `sought` has is enough to know that it is another. */
  readonly #name = Buffer.alloc(sought.length + 1)
  #nameLength = 0
  #isInName = true
  #isInPayload = false
  #isOver = false
  /** The start of an escape that the last slice has cut off: `%`, or `%` and a digit. */
  #cut: Array<number> = []

  /** Takes the next slice of the form. Returns the bytes of the first `payload` that are in it. */
  write(slice: Uint8Array): Buffer {
    const bytes = this.#cut.length === 0 ? slice : Buffer.concat([Buffer.from(this.#cut), slice])
    this.#cut = []
    return this.#decode(bytes, false)
  }

  /** The form has ended. An escape that is cut off stands for itself. */
  end(): Buffer {
    const cut = Buffer.from(this.#cut)
    this.#cut = []
    return this.#decode(cut, true)
  }

  #decode(bytes: Uint8Array, isEnd: boolean): Buffer {
    const decoded = Buffer.allocUnsafe(bytes.length)
    let length = 0
    for (let at = 0; at < bytes.length && !this.#isOver; at += 1) {
      let byte = bytes[at]!
      if (byte === ampersand) {
        this.#nextField()
        continue
      }
      if (byte === equals && this.#isInName) {
        this.#isInName = false
        this.#isInPayload = this.#isSought
        continue
      }
      if (byte === plus) byte = space
      else if (byte === percent) {
        if (at + 2 >= bytes.length && !isEnd && isCutOff(bytes, at)) {
          this.#cut = [...bytes.subarray(at)]
          break
        }
        const value = (digits[bytes[at + 1] ?? 0]! << 4) | digits[bytes[at + 2] ?? 0]!
        if (value >= 0) {
          byte = value
          at += 2
        }
      }
      if (this.#isInPayload) decoded[length++] = byte
      else if (this.#isInName && this.#nameLength < this.#name.length) this.#name[this.#nameLength++] = byte
    }
    return decoded.subarray(0, length)
  }

  get #isSought(): boolean {
    return this.#nameLength === sought.length && sought.equals(this.#name.subarray(0, sought.length))
  }

  /** A name without a value is a field too: an empty one. */
  #nextField(): void {
    this.#isOver = this.#isInPayload || (this.#isInName && this.#isSought)
    this.#isInName = true
    this.#nameLength = 0
  }
}

/** Whether the bytes from a `%` on may be the start of an escape. */
const isCutOff = (bytes: Uint8Array, at: number): boolean => at + 1 >= bytes.length || digits[bytes[at + 1]!]! >= 0

/** The value of each hexadecimal digit, by its byte. -1 for any other byte. */
const digits = Int8Array.from({ length: 256 }, (_, byte) => {
  const value = Number.parseInt(String.fromCharCode(byte), 16)
  return Number.isNaN(value) ? -1 : value
})
