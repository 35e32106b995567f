/** The queue of connections that the system has accepted for this program, and that the program has not taken yet. */
import * as Effect from "effect/Effect"
import type { Server } from "node:http"

/**
 * How many connections the system may hold for us. The system has a limit of its own, most often 4,096. Node's default
 * is 511.
 */
export const acceptQueueLength = 65_535

/**
 * Waits until the program has taken all of them. Closing the listener would reset those that are left, and libuv takes
 * only one in each turn of the event loop.
 */
export const acceptQueueTaken = (server: Server) =>
  Effect.callback<void>((resume) => {
    let turns = 0
    let lastConnection = 0
    const onConnection = () => {
      lastConnection = turns
    }
    const turn = () => {
      turns += 1
      // New connections may come without end.
      if (turns - lastConnection <= quietTurns && turns <= mostTurns) {
        setImmediate(turn)
      } else {
        server.off("connection", onConnection)
        resume(Effect.void)
      }
    }
    server.on("connection", onConnection)
    setImmediate(turn)
  })

const quietTurns = 3
const mostTurns = 5_000
