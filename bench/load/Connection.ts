/**
 * A client's keep-alive connection, as cheap as it can be. It writes bytes that are ready, and reads as little as it
 * must.
 */
import * as Net from "node:net"
import { guidDigits, type Template } from "./Payloads.ts"

export interface ConnectionOwner {
  /** The request in hand is answered. `isOpen` says whether the connection can take the next one. */
  readonly answered: (connection: Connection, status: number, isOpen: boolean) => void
  /** The connection broke while a request was in hand. */
  readonly broke: (connection: Connection, code: string) => void
}

/** One buffer for all connections, because whatever is read is used before anything else is read. */
const inbox = Buffer.allocUnsafe(64 * 1024)

export class Connection {
  readonly #socket: Net.Socket
  #owner: ConnectionOwner | undefined
  #template: Template | undefined
  #bytes: Buffer = Buffer.alloc(0)
  #unparsed = ""
  #code = "closed"
  isOpen = true
  /** The number of the request in hand, for its owner. */
  index = -1

  constructor(port: number) {
    this.#socket = Net.connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: inbox,
        callback: (length, buffer) => {
          this.#read((buffer as Buffer).toString("latin1", 0, length))
          return true
        }
      }
    })
    this.#socket.on("error", (error: NodeJS.ErrnoException) => this.#code = error.code ?? error.message)
    this.#socket.on("end", () => this.#socket.destroy())
    this.#socket.on("close", () => {
      this.isOpen = false
      const owner = this.#owner
      this.#owner = undefined
      owner?.broke(this, this.#code)
    })
  }

  /** The request before must be answered, because its bytes are used again. */
  send(template: Template, index: number, id: number, owner: ConnectionOwner): void {
    this.index = index
    this.#owner = owner
    if (this.#template !== template) {
      this.#template = template
      this.#bytes = Buffer.from(template.bytes)
    }
    this.#bytes.write(String(id).padStart(guidDigits, "0"), template.guidAt, "latin1")
    if (template.body === undefined) return void this.#socket.write(this.#bytes)
    this.#socket.cork()
    this.#socket.write(this.#bytes)
    this.#socket.write(template.body)
    this.#socket.uncork()
  }

  /** Closes the connection, and forgets its request. */
  close(): void {
    this.#owner = undefined
    this.isOpen = false
    this.#socket.destroy()
  }

  #read(text: string): void {
    const unparsed = this.#unparsed === "" ? text : this.#unparsed + text
    const headEnd = unparsed.indexOf("\r\n\r\n")
    const head = headEnd < 0 ? "" : unparsed.slice(0, headEnd).toLowerCase()
    const length = Number(/\r\ncontent-length: (\d+)/.exec(head)?.[1] ?? 0)
    if (headEnd < 0 || unparsed.length < headEnd + 4 + length) {
      this.#unparsed = unparsed
      return
    }
    this.#unparsed = ""
    if (head.includes("\r\nconnection: close")) {
      this.isOpen = false
      this.#socket.destroySoon()
    }
    const owner = this.#owner
    this.#owner = undefined
    owner?.answered(this, Number(unparsed.slice(9, 12)), this.isOpen)
  }
}
