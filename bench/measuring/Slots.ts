/** Contenders that are alive at once and take turns in short slots, in an order that chance makes anew for each turn. */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import type { Contender } from "../contenders/Contenders.ts"
import { median } from "../figures/Statistics.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import type { BackendSpec, Payload } from "../load/Messages.ts"
import { cpuTime } from "../machine/ProcessUsage.ts"
import { problemsOf } from "../scenarios/FanOut.ts"

export interface Race<E, R> {
  readonly label: string
  readonly payload: Payload
  readonly forged?: boolean
  readonly backends: ReadonlyArray<BackendSpec>
  readonly connections?: number
  /** Starts all of them. */
  readonly start: (backends: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Runner>, E, R>
  /** How often they are started anew. */
  readonly starts: number
  /** Slots of each contender after each start. */
  readonly turns: number
  /** Milliseconds. */
  readonly slot: number
  /** Milliseconds for which each of them is under load before it counts. */
  readonly warmUp: number
}

export interface Runner extends Contender {
  /** What all answers must be. */
  readonly status: number
}

/** CPU time per request in each slot, in µs, by contender; for each start, in the order of turns. */
export type Starts = ReadonlyArray<ReadonlyArray<Readonly<Record<string, number>>>>

export const race = Effect.fnUntraced(function*<E, R>(plan: Race<E, R>) {
  const load = yield* LoadProcess
  const problems: Array<string> = []
  const starts: Array<Array<Record<string, number>>> = []
  const { connections = 32, label } = plan

  const run = Effect.fnUntraced(function*({ name, pid, port, status }: Runner, count: number) {
    const before = cpuTime(pid)
    const { elapsed, ...result } = yield* load.run({
      port,
      connections,
      payload: plan.payload,
      forged: plan.forged === true,
      count,
      due: undefined,
      reached: status === 400 ? [] : plan.backends.map((_, i) => i),
      limit: 60_000
    })
    yield* calm(pid)
    problems.push(...problemsOf(name, status, { elapsed, ...result }))
    return { cpu: (cpuTime(pid) - before) / count, perSecond: count / elapsed * 1_000 }
  })

  for (let i = 1; i <= plan.starts; i++) {
    yield* Progress.step(`${label}: start ${i} of ${plan.starts}`)
    const turns = yield* Effect.scoped(Effect.gen(function*() {
      const runners = yield* plan.start(yield* load.backends(plan.backends))
      const rates: Array<number> = []
      for (const runner of runners) {
        const until = performance.now() + plan.warmUp
        let count = connections * 4
        while (performance.now() < until) {
          const { perSecond } = yield* run(runner, count)
          count = Math.ceil(perSecond / 4)
          rates.push(perSecond)
        }
      }
      const count = Math.max(connections * 2, Math.round(median(rates) * plan.slot / 1_000))
      const taken: Array<Record<string, number>> = []
      for (let turn = 0; turn < plan.turns; turn++) {
        const slots: Record<string, number> = {}
        for (const runner of shuffled(runners)) slots[runner.name] = (yield* run(runner, count)).cpu
        taken.push(slots)
      }
      yield* load.disconnect
      return taken
    }))
    starts.push(turns)
  }
  yield* Progress.clear
  return { starts, problems: [...new Set(problems)] }
})

/**
 * Until a process has done what its slot left over: outcomes that are written later, garbage, compilation. It is the slot's
 * work, and it would disturb the next one's.
 */
const calm = Effect.fnUntraced(function*(pid: number) {
  let before = cpuTime(pid)
  for (let i = 0; i < 50; i++) {
    yield* Effect.sleep("10 millis")
    const now = cpuTime(pid)
    if (now - before < 500) return
    before = now
  }
})

const shuffled = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> =>
  values.map((value) => ({ value, at: Math.random() })).toSorted((a, b) => a.at - b.at).map(({ value }) => value)
