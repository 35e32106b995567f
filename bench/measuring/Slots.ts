/**
 * Measures contenders that are alive at once and take turns in short slots, in a random order for each turn.
 *
 * Whatever else the machine does then falls on all of them alike, and the slots of one turn are only a few hundred
 * milliseconds apart. All contenders are started anew several times, because two processes of one build differ by some
 * percent for as long as they live.
 */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import type { Contender } from "../contenders/Contenders.ts"
import type { Round, Turn } from "../figures/Measures.ts"
import { cpuPerDelivery, waitedForCore } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import type { BackendSpec, Payload } from "../load/Messages.ts"
import { cpuTime, isExact, peakRss, waitTime } from "../machine/ProcessUsage.ts"
import { percentiles, problemsOf, steady } from "./Answers.ts"

export interface Runner extends Contender {
  /** The status that all answers must have. */
  readonly status: number
}

export interface Plan<E, R> {
  readonly label: string
  readonly payload: Payload
  readonly forged: boolean
  readonly backends: ReadonlyArray<BackendSpec>
  /** The backends, by their place, that must get everything that is not refused. */
  readonly reached: ReadonlyArray<number>
  readonly connections: number
  /** Requests a second. Undefined: a closed loop. */
  readonly rate: number | undefined
  /** Starts all contenders. */
  readonly start: (backends: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Runner>, E, R>
  readonly starts: number
  /** The turns after each start. */
  readonly turns: number
  /** Milliseconds: in a closed loop, of the most expensive contender's CPU time; at a rate, of the clock. */
  readonly slot: number
  /** Milliseconds in the same measure, before anything counts. */
  readonly warmUp: number
}

export const inSlots = Effect.fnUntraced(function*<E, R>(plan: Plan<E, R>) {
  const load = yield* LoadProcess
  const { connections, label, rate } = plan
  // Ticks of 10 ms need slots that hold many of them.
  const slotLength = isExact ? plan.slot : plan.slot * 10
  const problems = new Set<string>()
  const starts: Array<ReadonlyArray<Turn>> = []
  const peaks: Record<string, number> = {}

  const run = Effect.fnUntraced(function*({ name, pid, port, status }: Runner, count: number) {
    const [before, waitedBefore] = [cpuTime(pid), waitTime(pid)]
    const result = yield* load.run({
      port,
      connections,
      count,
      payload: plan.payload,
      forged: plan.forged,
      due: rate === undefined ? undefined : steady(rate, count),
      reached: status === 400 ? [] : plan.reached,
      limit: 120_000
    })
    yield* untilCalm(pid)
    for (const problem of problemsOf(name, status, result)) problems.add(problem)
    const [used, waited] = [cpuTime(pid) - before, waitTime(pid) - waitedBefore]
    return { result, cpu: used / count, waited: 100 * waited / (used + waited) }
  })

  const slot = Effect.fnUntraced(function*(runner: Runner, count: number) {
    const { cpu, result, waited } = yield* run(runner, count)
    return {
      [cpuPerDelivery]: cpu,
      [waitedForCore]: waited,
      ...rate === undefined ? { "throughput (/s)": count / result.elapsed * 1_000 } : {},
      ...percentiles(result.latency)
    } satisfies Round
  })

  /** Succeeds with the number of requests for a slot. */
  const warmUp = Effect.fnUntraced(function*(runner: Runner) {
    if (rate !== undefined) {
      yield* run(runner, Math.ceil(rate * plan.warmUp / 1_000))
      return Math.ceil(rate * plan.slot / 1_000)
    }
    const [from, giveUp] = [cpuTime(runner.pid), performance.now() + 4 * plan.warmUp]
    let count = connections * 4
    while (true) {
      const { cpu } = yield* run(runner, count)
      const left = plan.warmUp * 1_000 - (cpuTime(runner.pid) - from)
      if (left <= 0 || performance.now() > giveUp) return Math.ceil(slotLength * 1_000 / cpu)
      count = Math.max(connections * 2, Math.ceil(Math.min(left, 250_000) / cpu))
    }
  })

  for (let start = 1; start <= plan.starts; start++) {
    yield* Progress.step(`${label}: start ${start} of ${plan.starts}`)
    yield* Effect.scoped(Effect.gen(function*() {
      const runners = yield* plan.start(yield* load.backends(plan.backends))
      const counts = yield* Effect.forEach(runners, warmUp)
      const count = rate === undefined ? Math.max(connections * 2, Math.min(...counts)) : counts[0]!
      const turns: Array<Turn> = []
      for (let turn = 0; turn < plan.turns; turn++) {
        const rounds: Record<string, Round> = {}
        for (const runner of shuffled(runners)) rounds[runner.name] = yield* slot(runner, count)
        turns.push(Object.fromEntries(runners.map(({ name }) => [name, rounds[name]!])))
      }
      starts.push(turns)
      for (const { name, pid } of runners) peaks[name] = Math.max(peaks[name] ?? 0, peakRss(pid))
      yield* load.disconnect
    }))
  }
  return { starts, peaks, problems }
})

/**
 * Waits until a process has done the work that its slot left over: outcomes that are written later, garbage,
 * compilation. That work belongs to the slot, and would disturb the next one.
 */
const untilCalm = Effect.fnUntraced(function*(pid: number) {
  let before = cpuTime(pid)
  for (let i = 0; i < 50; i++) {
    yield* Effect.sleep("10 millis")
    const now = cpuTime(pid)
    if (now - before < calm) return
    before = now
  }
})

/** Microseconds of CPU time that a process at rest needs in 10 ms, at most. */
const calm = 500

const shuffled = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> =>
  values.map((value) => ({ value, at: Math.random() })).toSorted((a, b) => a.at - b.at).map(({ value }) => value)
