/**
 * How much a contender allocates on V8's heap for a delivery. `contenders/allocations.ts` tells it, in a process of its
 * own.
 */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import type { Contender } from "../contenders/Contenders.ts"

/** The kB for each of the `count` deliveries that `run` makes. */
export const heapPerDelivery = Effect.fnUntraced(function*<E, R>(
  contender: Contender,
  count: number,
  run: Effect.Effect<unknown, E, R>
) {
  yield* ask(contender, "allocations from here")
  yield* run
  return (yield* ask(contender, "allocated")) / count / 1_000
})

const ask = Effect.fnUntraced(function*({ logFile, pid }: Contender, msg: string) {
  const before = linesOf(logFile, msg).length
  process.kill(pid, "SIGUSR2")
  for (let i = 0; i < 200; i++) {
    yield* Effect.sleep("10 millis")
    const answer = linesOf(logFile, msg)[before]
    if (answer !== undefined) return Number(/"bytes":(\d+)/.exec(answer)?.[1])
  }
  return Number.NaN
})

const linesOf = (logFile: string, msg: string): ReadonlyArray<string> =>
  readFileSync(logFile, "utf8").split("\n").filter((line) => line.startsWith(`{"msg":"${msg}"`))
