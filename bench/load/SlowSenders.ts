/** Connections with a correct head that send one byte of their body a second, for ever. */
import * as Net from "node:net"
import { templateOf } from "./Payloads.ts"

let sockets: Array<Net.Socket> = []
let timer: NodeJS.Timeout | undefined
let cuts = 0

/** Milliseconds. A slice of the connections is served in each. */
const tick = 10

export const startSlowSenders = (port: number, count: number): void => {
  const { body, bytes } = templateOf(1_000_000, false)
  const open = () => {
    const socket = Net.connect({ port, host: "127.0.0.1" })
    socket.on("error", () => {})
    socket.resume()
    socket.write(bytes)
    return socket
  }
  const slices = 1_000 / tick
  let slice = 0
  sockets = Array.from({ length: count }, open)
  timer = setInterval(() => {
    slice = (slice + 1) % slices
    for (let i = slice; i < count; i += slices) {
      if (sockets[i]!.writable) sockets[i]!.write(body!.subarray(0, 1))
      else {
        cuts += 1
        sockets[i]!.destroy()
        sockets[i] = open()
      }
    }
  }, tick)
}

/** Succeeds with how many slow senders were cut off. */
export const stopSlowSenders = (): number => {
  const before = cuts
  clearInterval(timer)
  for (const socket of sockets) socket.destroy()
  sockets = []
  cuts = 0
  return before
}
