/**
 * Reads a few members of a JSON object (RFC 8259) while its bytes pass, and sees whether all of it is JSON.
 *
 * **Details**
 *
 * - Nothing but the sought members is kept, however long a text is and however many values there are.
 * - Of equal members the last one counts, as with `JSON.parse`. Only the outermost object's members are sought.
 * - It goes 10,000 values deep, as Go does, in which Pipelines-as-Code is written.
 *
 * **Gotchas**
 *
 * `JSON.parse` would hold the event loop. A published parser that reads in slices (`@streamparser/json` 0.0.26) took seven
 * times the CPU and 160 MiB for 24 MB of commits, and has no limit to the depth.
 */
import { Buffer } from "node:buffer"
import {
  afterInNumber,
  backslash,
  braceCloses,
  braceOpens,
  bracketCloses,
  bracketOpens,
  colon,
  comma,
  kind,
  kinds,
  letterU,
  literals,
  number,
  numberMayEnd,
  quote,
  refused
} from "./JsonBytes.ts"

export class JsonMembers {
  readonly #names: ReadonlySet<string>
  readonly #found = new Map<string, unknown>()
  /** Of each object or list that is open, whether it is an object. */
  readonly #open: Array<boolean> = []
  #state: State = state.start
  #isKey = false
  /** The rest of a literal. */
  #rest = noBytes
  /** The part of a number that is being read. In an escape, how many hexadecimal digits are still to come. */
  #part = 0
  /** The member whose value comes next, if it is sought. */
  #member: string | undefined
  /** The slices of the key or value that is being kept, and how many bytes they have. */
  #kept: Array<Uint8Array> | undefined
  #keptBytes = 0
  /** Where in the present slice that begins which is being kept. */
  #keptFrom = 0

  constructor(names: ReadonlySet<string>) {
    this.#names = names
  }

  /** Takes the next slice. False: this is no JSON object, or a sought member is too large. */
  write(bytes: Uint8Array): boolean {
    let at = 0
    while (at < bytes.length) {
      const next = this.#read(bytes, at)
      if (next === refused) {
        this.#state = state.refused
        return false
      }
      at = next
    }
    return this.#carryOver(bytes)
  }

  /** The object has ended. Undefined: it was none. */
  end(): ReadonlyMap<string, unknown> | undefined {
    return this.#state === state.after && this.#open.length === 0 ? this.#found : undefined
  }

  /** Reads one token, or the part of it that is in this slice. Returns where to go on. */
  #read(bytes: Uint8Array, at: number): number {
    const byte = bytes[at]!
    switch (this.#state) {
      case state.text:
        return this.#readText(bytes, at)
      case state.escape:
        this.#part = byte === letterU ? 4 : 0
        this.#state = byte === letterU ? state.hex : state.text
        return kinds[byte]! & kind.escaped ? at + 1 : refused
      case state.hex:
        this.#part -= 1
        if (this.#part === 0) this.#state = state.text
        return kinds[byte]! & kind.hex ? at + 1 : refused
      case state.literal:
        return this.#readLiteral(bytes, at)
      case state.number: {
        const then = afterInNumber(this.#part, byte)
        if (then === refused) return numberMayEnd(this.#part) ? this.#valueEnded(bytes, at) : refused
        this.#part = then
        return at + 1
      }
    }
    if (kinds[byte]! & kind.space) return at + 1
    switch (this.#state) {
      case state.start:
        return byte === braceOpens ? this.#opens(true, at) : refused
      case state.firstKey:
        if (byte === braceCloses) return this.#closes(true, bytes, at)
        return byte === quote ? this.#beginText(true, at) : refused
      case state.key:
        return byte === quote ? this.#beginText(true, at) : refused
      case state.colon:
        this.#state = state.value
        return byte === colon ? at + 1 : refused
      case state.firstValue:
        return byte === bracketCloses ? this.#closes(false, bytes, at) : this.#beginValue(byte, at)
      case state.value:
        return this.#beginValue(byte, at)
      case state.after:
        if (byte === comma && this.#open.length > 0) {
          this.#state = this.#open.at(-1)! ? state.key : state.value
          return at + 1
        }
        if (byte === braceCloses) return this.#closes(true, bytes, at)
        return byte === bracketCloses ? this.#closes(false, bytes, at) : refused
      default:
        return refused
    }
  }

  #readText(bytes: Uint8Array, at: number): number {
    let end = at
    while (end < bytes.length && kinds[bytes[end]!]! & kind.plain) end += 1
    if (end === bytes.length) return end
    if (bytes[end] === backslash) {
      this.#state = state.escape
      return end + 1
    }
    if (bytes[end] !== quote) return refused
    return this.#isKey ? this.#keyEnded(bytes, end + 1) : this.#valueEnded(bytes, end + 1)
  }

  #readLiteral(bytes: Uint8Array, at: number): number {
    if (bytes[at] !== this.#rest[0]) return refused
    this.#rest = this.#rest.subarray(1)
    return this.#rest.length === 0 ? this.#valueEnded(bytes, at + 1) : at + 1
  }

  #beginText(isKey: boolean, at: number): number {
    this.#isKey = isKey
    this.#state = state.text
    if (isKey && this.#open.length === 1) this.#keepFrom(at)
    return at + 1
  }

  #beginValue(byte: number, at: number): number {
    if (this.#member !== undefined && this.#open.length === 1) this.#keepFrom(at)
    if (byte === quote) return this.#beginText(false, at)
    if (byte === braceOpens || byte === bracketOpens) return this.#opens(byte === braceOpens, at)
    const literal = literals.get(byte)
    if (literal !== undefined) {
      this.#rest = literal
      this.#state = state.literal
      return at
    }
    this.#state = state.number
    this.#part = afterInNumber(number.start, byte)
    return this.#part === refused ? refused : at + 1
  }

  #opens(isObject: boolean, at: number): number {
    if (this.#open.length === deepest) return refused
    this.#open.push(isObject)
    this.#state = isObject ? state.firstKey : state.firstValue
    return at + 1
  }

  #closes(isObject: boolean, bytes: Uint8Array, at: number): number {
    return this.#open.pop() === isObject ? this.#valueEnded(bytes, at + 1) : refused
  }

  #keyEnded(bytes: Uint8Array, end: number): number {
    this.#state = state.colon
    if (this.#open.length !== 1 || this.#kept === undefined) return end
    const name = String(JSON.parse(this.#takeKept(bytes, end).toString()))
    this.#member = this.#names.has(name) ? name : undefined
    return end
  }

  #valueEnded(bytes: Uint8Array, end: number): number {
    this.#state = state.after
    if (this.#open.length !== 1 || this.#member === undefined) return end
    this.#found.set(this.#member, JSON.parse(this.#takeKept(bytes, end).toString()))
    this.#member = undefined
    return end
  }

  #keepFrom(at: number): void {
    this.#kept = []
    this.#keptBytes = 0
    this.#keptFrom = at
  }

  #takeKept(bytes: Uint8Array, end: number): Buffer {
    const kept = Buffer.concat([...this.#kept!, bytes.subarray(this.#keptFrom, end)])
    this.#kept = undefined
    return kept
  }

  /** Keeps for the next slice what is in this one. False: that would be too much. */
  #carryOver(bytes: Uint8Array): boolean {
    if (this.#kept === undefined) return true
    this.#kept.push(bytes.subarray(this.#keptFrom))
    this.#keptBytes += bytes.length - this.#keptFrom
    this.#keptFrom = 0
    if (this.#member === undefined) {
      // A key that long is no name.
      if (this.#keptBytes > longestKey) this.#kept = undefined
    } else if (this.#keptBytes > mostKept) {
      this.#state = state.refused
      return false
    }
    return true
  }
}

const noBytes = new Uint8Array()

/** Where the reading stands: in the midst of a token, or between two, and then it says which may come. */
const state = {
  start: 0,
  firstKey: 1,
  key: 2,
  colon: 3,
  firstValue: 4,
  value: 5,
  after: 6,
  text: 7,
  escape: 8,
  hex: 9,
  literal: 10,
  number: 11,
  refused: 12
} as const
type State = typeof state[keyof typeof state]

const deepest = 10_000

/** Bytes. A name of a dozen letters, all of them escaped, has fewer. */
const longestKey = 128

/** Bytes. GitHub's repositories and accounts have some 6 kB. */
const mostKept = 256 * 1024
