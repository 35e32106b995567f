/**
 * Reads the status line of every answer beside undici, so that it decides an outcome whatever comes after it.
 *
 * **Details**
 *
 * undici gives an answer up for what a client need not mind: a second `Content-Length` of the same value, a head larger than
 * its limit, a head that breaks off, and a `100 Continue` that it has not asked for. A watched connection reads along, up to
 * the end of each final status line. The error that ends the connection then carries that line (`ofError`), and it ends: undici
 * destroys a connection on which it did not understand something.
 *
 * A `100` becomes a `102` before undici sees it: an interim answer (RFC 9110 §15.2) like any other.
 *
 * A backend that answers without reading on resets the connection. What it said before is still to be read (Linux keeps it),
 * but a failed write would end the stream. So a write that a reset has failed is kept back until the reading side has ended.
 *
 * **Gotchas**
 *
 * Requests are not pipelined, and undici writes their heads, and nothing else, as strings.
 */
import * as diagnostics from "node:diagnostics_channel"
import type * as net from "node:net"

export interface StatusLine {
  readonly status: number
  /** What `count` was when it was read, itself included. */
  readonly order: number
}

/** How many status lines have been read so far: one that a request has caused has a higher order than this was at its start. */
export const count = (): number => total

/** The status line that was read before this error ended the connection. */
export const ofError = (error: Error): StatusLine | undefined => linesOfErrors.get(error)

/** Watches every connection that undici opens from now on; answers with what ends that. */
export const watchConnections = (): () => void => {
  diagnostics.subscribe(connected, onConnected)
  return () => diagnostics.unsubscribe(connected, onConnected)
}

const connected = "undici:client:connected"

const onConnected = (message: unknown): void => watch((message as { readonly socket: net.Socket }).socket)

let total = 0
const linesOfErrors = new WeakMap<Error, StatusLine>()
const watched = new WeakSet<net.Socket>()

/** A reset has ended the reading side too; should it not end, the write's error does. In milliseconds. */
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

/** The answers on one connection, byte by byte up to the end of each final status line. */
class Answers {
  isExpected = false
  line: StatusLine | undefined
  #isStatusLine = true
  #column = 0
  #status = 0
  #afterCr = false

  /** A request goes out. */
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
    // As undici's parser does, with empty lines before an answer.
    if (length === 0) return
    const status = this.#status
    this.#status = 0
    this.#isStatusLine = false
    const isWhole = length >= pattern.length
    // After a 101 it is no HTTP any more.
    if (isWhole && status < 200 && status !== 101) return
    this.isExpected = false
    if (isWhole && status >= 200) this.line = { status, order: total += 1 }
  }
}
