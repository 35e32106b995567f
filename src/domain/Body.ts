/** The one copy of a delivery's body, shared by all of its attempts. Nothing writes to it once it is complete. */

/** Up to this, a body goes out as one buffer, in one write with the head. */
const wholeBytes = 64 * 1024

/** Chunks from here on are kept as they came; smaller ones are gathered, because each buffer costs memory of its own. */
const chunkBytes = 16 * 1024

export class Body {
  readonly length: number
  readonly #chunks: ReadonlyArray<Buffer>
  #whole: Buffer | undefined

  constructor(chunks: ReadonlyArray<Buffer>, length: number) {
    this.#chunks = chunks
    this.length = length
  }

  /** A body that is here as a whole. */
  static of(bytes: Buffer): Body {
    const chunks: Array<Buffer> = []
    for (let at = 0; at < bytes.length; at += wholeBytes) chunks.push(bytes.subarray(at, at + wholeBytes))
    return new Body(chunks, bytes.length)
  }

  /** In the order of its bytes: one for a small body. */
  get chunks(): ReadonlyArray<Buffer> {
    return this.length > wholeBytes ? this.#chunks : [this.#toBuffer()]
  }

  /** Of a small body, once. */
  #toBuffer(): Buffer {
    return this.#whole ??= this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.length)
  }

  /**
   * What undici takes: small bodies as one buffer, larger ones as slices for which it waits until the socket has drained.
   * A buffer written whole over TLS is encrypted whole into memory, once for each backend.
   */
  toDispatch(): Buffer | Iterable<Buffer> {
    return this.length > wholeBytes ? this.#chunks : this.#toBuffer()
  }
}

const noBytes = Buffer.alloc(0)

/** Gathers a body's chunks as they arrive. */
export class BodyAssembly {
  length = 0
  readonly #chunks: Array<Buffer> = []
  #block = noBytes
  #filled = 0

  append(chunk: Buffer): void {
    this.length += chunk.length
    if (chunk.length >= chunkBytes || this.length === chunk.length) {
      this.#closeBlock()
      this.#chunks.push(chunk)
      return
    }
    if (this.#filled + chunk.length > this.#block.length) this.#growBlock(chunk.length)
    this.#filled += chunk.copy(this.#block, this.#filled)
  }

  body(): Body {
    this.#closeBlock()
    return new Body(this.#chunks, this.length)
  }

  /** A block at most doubles what has arrived: a sender of single bytes must not make us set much aside. */
  #growBlock(needed: number): void {
    if (this.#filled >= wholeBytes / 2) this.#closeBlock()
    const grown = Buffer.allocUnsafeSlow(Math.min(wholeBytes, Math.max(1024, 2 * (this.#filled + needed))))
    this.#block.copy(grown, 0, 0, this.#filled)
    this.#block = grown
  }

  #closeBlock(): void {
    if (this.#filled === 0) return
    this.#chunks.push(this.#block.subarray(0, this.#filled))
    this.#block = noBytes
    this.#filled = 0
  }
}
