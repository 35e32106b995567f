/** Backends that cost next to nothing. They find the end of a request, note its number, and answer 202. */
import { once } from "node:events"
import { readFileSync } from "node:fs"
import * as Net from "node:net"
import * as Tls from "node:tls"
import type { BackendSpec } from "./Messages.ts"
import { guidDigits, guidMark } from "./Payloads.ts"

const answer = Buffer.from("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

const fixture = (name: string) => readFileSync(new URL(`../../test/fixtures/tls/${name}.pem`, import.meta.url))

export class Backend {
  readonly #spec: BackendSpec
  readonly #sockets = new Set<Net.Socket>()
  readonly #server: Net.Server
  #first = 0
  #bodyLength = 0
  #arrivals = new Uint8Array(0)
  /** How many deliveries of the expected run arrived, each counted once. */
  arrived = 0
  altered = 0
  /** The time at which the next byte may be read, on `performance.now()`. */
  #readableAt = 0

  constructor(spec: BackendSpec) {
    this.#spec = spec
    const serve = (socket: Net.Socket) => this.#serve(socket)
    this.#server = spec.tls === true
      ? Tls.createServer({ cert: fixture("localhost"), key: fixture("localhost-key"), noDelay: true }, serve)
      : Net.createServer({ noDelay: true }, serve)
  }

  async listen(): Promise<string> {
    const port = this.#spec.dead === true ? await closedPort() : 0
    if (port === 0) await once(this.#server.listen({ port, host: "127.0.0.1", backlog: 4_096 }), "listening")
    const { port: bound } = this.#server.address() as Net.AddressInfo ?? { port }
    return `${this.#spec.tls === true ? "https" : "http"}://127.0.0.1:${bound || port}`
  }

  /** From now on deliveries number `first` to `first + count - 1` are counted, and no others. */
  expect(first: number, count: number, bodyLength: number): void {
    this.#first = first
    this.#bodyLength = bodyLength
    this.#arrivals = new Uint8Array(count)
    this.arrived = 0
    this.altered = 0
  }

  /** How often the delivery arrived. */
  arrivalsOf(index: number): number {
    return this.#arrivals[index] ?? 0
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #serve(socket: Net.Socket): void {
    let head = ""
    let id = -1
    let bodyLength = 0
    let left = 0
    this.#sockets.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => this.#sockets.delete(socket))
    socket.on("data", (chunk: Buffer) => {
      if (this.#spec.bytesPerSecond !== undefined) this.#throttle(socket, chunk.length, this.#spec.bytesPerSecond)
      let at = 0
      while (at < chunk.length) {
        if (left === 0) {
          const end = chunk.indexOf("\r\n\r\n", at)
          if (end < 0) {
            head += chunk.toString("latin1", at)
            return
          }
          head += chunk.toString("latin1", at, end + 2)
          at = end + 4
          const mark = head.indexOf(guidMark) + guidMark.length
          id = Number(head.slice(mark, mark + guidDigits))
          left = bodyLength = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
          head = ""
        }
        const taken = Math.min(left, chunk.length - at)
        left -= taken
        at += taken
        if (left === 0) this.#arrive(socket, id, bodyLength)
      }
    })
  }

  #arrive(socket: Net.Socket, id: number, bodyLength: number): void {
    const index = id - this.#first
    const before = this.#arrivals[index]
    if (before !== undefined) {
      this.#arrivals[index] = before + 1
      if (before === 0) this.arrived += 1
      if (bodyLength !== this.#bodyLength) this.altered += 1
    }
    if (this.#spec.delay === undefined) socket.write(answer)
    else setTimeout(() => socket.writable && socket.write(answer), this.#spec.delay)
  }

  #throttle(socket: Net.Socket, bytes: number, bytesPerSecond: number): void {
    const now = performance.now()
    this.#readableAt = Math.max(now, this.#readableAt) + bytes / bytesPerSecond * 1_000
    // Timers count in whole milliseconds.
    if (this.#readableAt - now < 2) return
    socket.pause()
    setTimeout(() => socket.resume(), this.#readableAt - now)
  }
}

/**
 * A port below those that connections are given. A connection that got the dead backend's port by chance would be
 * connected to itself.
 */
const closedPort = async (): Promise<number> => {
  const server = Net.createServer()
  const port = 20_000 + Math.floor(Math.random() * 10_000)
  try {
    await once(server.listen(port, "127.0.0.1"), "listening")
  } catch {
    return closedPort()
  }
  await once(server.close(), "close")
  return port
}
