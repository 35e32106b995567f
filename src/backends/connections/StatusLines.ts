/**
 * Reads the status line of every answer beside undici, so that the line decides an outcome whatever comes after it.
 *
 * **Details**
 *
 * undici gives up an answer for things that a client need not mind: a second `Content-Length` of the same value, a head
 * larger than its limit, a head that breaks off, and a `100 Continue` that it has not asked for. So each watched
 * connection is read along, up to the end of each final status line. If undici does not understand something, it
 * destroys the connection with an error, and that error then carries the line (`ofError`).
 *
 * A `100` becomes a `102` before undici sees it, which is an interim answer (RFC 9110 §15.2) like any other.
 *
 * A backend that answers without reading on resets the connection. Its answer can still be read (Linux keeps it), but a
 * failed write would end the stream before. So the error of a write that was reset is held back until the reading side
 * has ended.
 *
 * **Gotchas**
 *
 * It relies on two things: requests are not pipelined, and undici writes their heads, and nothing else, as strings.
 */
import * as diagnostics from "node:diagnostics_channel"
import type * as net from "node:net"

/** The final status line of one answer. */
export interface StatusLine {
  readonly status: number
  /** The value of `count` when this line was read, the line itself included. */
  readonly order: number
}

/**
 * How many status lines have been read so far. The line that answers a request has a higher order than this was when
 * the request began.
 */
export const count = (): number => total

/** The status line that was read before this error ended the connection. */
export const ofError = (error: Error): StatusLine | undefined => linesOfErrors.get(error)

/** Watches every connection that undici opens from now on. The function that it returns ends that. */
export const watchConnections = (): () => void => {
  diagnostics.subscribe(connected, onConnected)
  return () => diagnostics.unsubscribe(connected, onConnected)
}

const connected = "undici:client:connected"

const onConnected = (message: unknown): void => watch((message as { readonly socket: net.Socket }).socket)

let total = 0
const linesOfErrors = new WeakMap<Error, StatusLine>()
const watched = new WeakSet<net.Socket>()

/**
 * Milliseconds after which the write's error ends the connection all the same. A reset normally ends the reading side
 * before.
 */
const writeErrorPatience = 1_000

type Written = (error?: Error | null) => void

const watch = (socket: net.Socket): void => {
  if (watched.has(socket)) return
  watched.add(socket)
  const { _write, _writev, destroy, push } = socket
  const answers = new Answers()

  // One write is under way at a time.
  let written: Written | undefined
  const onWritten: Written = (error) => {
    if (error == null || !isReset(error) || socket.destroyed) return written?.(error)
    const timer = setTimeout(() => written?.(error), writeErrorPatience)
    socket.once("close", () => clearTimeout(timer))
  }

  socket._write = (chunk, encoding, done) => {
    if (typeof chunk === "string") answers.expect()
    written = done
    _write.call(socket, chunk, encoding, onWritten)
  }
  socket._writev = (chunks, done) => {
    for (const { chunk } of chunks) {
      if (typeof chunk === "string") answers.expect()
    }
    written = done
    _writev?.call(socket, chunks, onWritten)
  }
  socket.push = (chunk, encoding) => {
    if (answers.isExpected && chunk !== null) answers.read(chunk)
    return push.call(socket, chunk, encoding)
  }
  socket.destroy = (error) => {
    if (error !== undefined && answers.line !== undefined) linesOfErrors.set(error, answers.line)
    return destroy.call(socket, error)
  }
}

const isReset = (error: Error): boolean => {
  const { code } = error as NodeJS.ErrnoException
  return code === "ECONNRESET" || code === "EPIPE"
}

const cr = 0x0d
const lf = 0x0a
const space = 0x20

/** `HTTP/1.1 202`, where 0 is any digit. */
const pattern = Buffer.from("HTTP/0.0 000")
const digit = 0x30

const isDigit = (byte: number): boolean => byte >= digit && byte <= 0x39

/** The answers on one connection, read byte by byte up to the end of each final status line. */
class Answers {
  isExpected = false
  line: StatusLine | undefined
  #isStatusLine = true
  #column = 0
  #status = 0
  #afterCr = false

  /** A request goes out, and its answer is expected. */
  expect(): void {
    this.isExpected = true
    this.line = undefined
    this.#isStatusLine = true
    this.#column = this.#status = 0
    this.#afterCr = false
  }

  read(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!
      if (byte === lf) this.#onLineEnd()
      else if (this.#afterCr) this.isExpected = false
      else if (byte === cr) this.#afterCr = true
      else {
        if (this.#isStatusLine) this.#onStatusByte(byte, chunk, at)
        this.#column += 1
      }
      if (!this.isExpected) return
    }
  }

  #onStatusByte(byte: number, chunk: Buffer, at: number): void {
    const expected = pattern[this.#column]
    const fits = expected === undefined
      ? this.#column > pattern.length || byte === space
      : expected === digit
      ? isDigit(byte)
      : byte === expected
    if (!fits) this.isExpected = false
    if (this.#column < pattern.length - 3 || this.#column >= pattern.length) return
    this.#status = this.#status * 10 + byte - digit
    if (this.#column === pattern.length - 1 && this.#status === 100) chunk[at] = digit + 2
  }

  #onLineEnd(): void {
    const length = this.#column
    this.#column = 0
    this.#afterCr = false
    if (!this.#isStatusLine) {
      // An interim head has ended.
      this.#isStatusLine = length === 0
      return
    }
    // Empty lines before an answer are skipped, as undici's parser does.
    if (length === 0) return
    const status = this.#status
    this.#status = 0
    this.#isStatusLine = false
    const isWhole = length >= pattern.length
    // After a 101 the bytes are no HTTP any more.
    if (isWhole && status < 200 && status !== 101) return
    this.isExpected = false
    if (isWhole && status >= 200) this.line = { status, order: total += 1 }
  }
}
