/** The one copy of a delivery's body, shared by all of its attempts. Nothing writes to it once it is complete. */

/** A body of at most this size goes out as one buffer, in one write with the head. */
const wholeBytes = 64 * 1024

/**
 * Chunks of at least this size are kept as they came. Smaller ones are gathered, because each buffer costs memory of
 * its own.
 */
const chunkBytes = 16 * 1024

/** A complete body, kept as the chunks in which it came or was gathered. */
export class Body {
  readonly length: number
  readonly #chunks: ReadonlyArray<Buffer>
  #whole: Buffer | undefined

  constructor(chunks: ReadonlyArray<Buffer>, length: number) {
    this.#chunks = chunks
    this.length = length
  }

  /** A body whose bytes are all here. */
  static of(bytes: Buffer): Body {
    const chunks: Array<Buffer> = []
    for (let at = 0; at < bytes.length; at += wholeBytes) chunks.push(bytes.subarray(at, at + wholeBytes))
    return new Body(chunks, bytes.length)
  }

  /** The body's bytes in order. A small body is one chunk. */
  get chunks(): ReadonlyArray<Buffer> {
    return this.length > wholeBytes ? this.#chunks : [this.#toBuffer()]
  }

  /** For small bodies only. The chunks are joined once. */
  #toBuffer(): Buffer {
    return this.#whole ??= this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.length)
  }

  /**
   * The body as undici takes it. A small body goes as one buffer. A larger one goes as slices, and undici waits after
   * each until the socket has drained: a large buffer written in one go over TLS would be encrypted whole into memory,
   * once for each backend.
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

  /** A block at most doubles what has arrived, so that a sender of single bytes can't make us set much memory aside. */
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
