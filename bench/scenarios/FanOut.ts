/** Scenarios in which the contenders take turns, round after round, before the same backends under the same load. */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { type Contender, contenders, type Start, type Surroundings } from "../contenders/Contenders.ts"
import {
  cpuPerDelivery,
  measuresOf,
  nginxName,
  peakMemory,
  quantile,
  type Round,
  type ScenarioResult,
  type Target
} from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import type { BackendSpec, Payload, RunResult } from "../load/Messages.ts"
import { cpuTime, peakRss } from "../machine/ProcessUsage.ts"

export interface FanOut {
  readonly group: string
  readonly name: string
  readonly payload: Payload
  readonly backends: ReadonlyArray<BackendSpec>
  /** The backends, by their place, that must get everything. None given: all. */
  readonly reached?: ReadonlyArray<number>
  readonly forged?: boolean
  readonly connections?: number
  /** Requests a second. None: a closed loop. */
  readonly rate?: number
  /** How much a request costs, in pushes to three backends: so many fewer are sent. */
  readonly weight?: number
  readonly status: number
  /** Nobody is to win where nginx does less than the others. */
  readonly withoutNginx?: boolean
  readonly targets?: Readonly<Record<string, Target>>
  readonly notes?: ReadonlyArray<string>
}

export const measure = Effect.fnUntraced(function*(scenario: FanOut) {
  const { options } = yield* Setup
  const load = yield* LoadProcess
  const { all, node } = yield* contenders
  const { connections = 32, weight = 1 } = scenario
  const rounds = scenario.rate === undefined ? (options.quick ? 5 : 9) : (options.quick ? 3 : 5)
  const count = scenario.rate === undefined
    ? Math.ceil((options.quick ? 2_500 : 6_000) / weight)
    : scenario.rate * (options.quick ? 4 : 10)
  const warmUp = scenario.rate === undefined ? Math.ceil(12_000 / weight) : count
  const problems: Array<string> = []

  const run = Effect.fnUntraced(function*({ name, pid, port }: Contender, requests: number) {
    const reached = scenario.status >= 400 && scenario.status < 500
      ? []
      : scenario.reached ?? scenario.backends.map((_, i) => i)
    const before = cpuTime(pid)
    const result = yield* load.run({
      port,
      connections,
      reached,
      payload: scenario.payload,
      forged: scenario.forged === true,
      count: requests,
      due: scenario.rate === undefined ? undefined : steady(scenario.rate, requests),
      limit: 120_000
    })
    const cpu = cpuTime(pid) - before
    problems.push(...problemsOf(name, name === nginxName ? 202 : scenario.status, result))
    return { cpu, result }
  })

  const label = `${scenario.group}: ${scenario.name}`
  const measured = yield* Effect.scoped(Effect.gen(function*() {
    const starts = scenario.withoutNginx === true ? node : all
    const runners = yield* startAll(starts, { backends: yield* load.backends(scenario.backends) })
    yield* Progress.step(`${label}: warming up`)
    for (const contender of runners) yield* run(contender, warmUp)
    const taken: Array<Record<string, Round>> = []
    for (let i = 0; i < rounds; i++) {
      yield* Progress.step(`${label}: round ${i + 1} of ${rounds}`)
      const round: Record<string, Round> = {}
      // Who comes first is not always the same one.
      for (const contender of i % 2 === 0 ? runners : runners.toReversed()) {
        const { cpu, result } = yield* run(contender, count)
        round[contender.name] = {
          [cpuPerDelivery]: cpu / count,
          ...scenario.rate === undefined ? { "throughput (/s)": count / result.elapsed * 1_000 } : {},
          ...percentiles(result.latency)
        }
      }
      taken.push(Object.fromEntries(runners.map(({ name }) => [name, round[name]!])))
    }
    const peaks = Object.fromEntries(runners.map(({ name, pid }) => [name, { [peakMemory]: peakRss(pid) }]))
    yield* load.disconnect
    return [...measuresOf(taken, scenario.targets), ...measuresOf([peaks], scenario.targets)]
  }))

  const allocated = yield* Effect.scoped(Effect.gen(function*() {
    yield* Progress.step(`${label}: allocations`)
    const surroundings = { backends: yield* load.backends(scenario.backends), preload: "allocations.ts" }
    const bytes: Record<string, Round> = {}
    for (const contender of yield* startAll(node, surroundings)) {
      yield* run(contender, Math.ceil(warmUp / 2))
      yield* askForAllocations(contender, "allocations from here")
      yield* run(contender, count)
      bytes[contender.name] = {
        "heap per delivery (kB)": (yield* askForAllocations(contender, "allocated")) / count / 1_000
      }
    }
    yield* load.disconnect
    return measuresOf([bytes])
  }))

  const loop = scenario.rate === undefined
    ? `closed loop of ${connections} connections`
    : `${scenario.rate}/s, open loop`
  return {
    group: scenario.group,
    name: scenario.name,
    setting: `${loop}, ${rounds} rounds of ${count}`,
    measures: [...measured, ...allocated],
    headlines: Object.keys(scenario.targets ?? { [cpuPerDelivery]: 0 }),
    notes: scenario.notes ?? [],
    problems: [...new Set(problems)]
  } satisfies ScenarioResult
})

export const startAll = (starts: ReadonlyArray<Start>, surroundings: Surroundings) =>
  Effect.forEach(starts, (start) => start(surroundings))

/** When each of `count` requests is due, in milliseconds, at a fixed rate a second. */
export const steady = (rate: number, count: number): Float64Array =>
  Float64Array.from({ length: count }, (_, i) => i / rate * 1_000)

export const percentiles = (latency: Float64Array): Round => {
  const sorted = latency.toSorted()
  return {
    "p50 (ms)": quantile(sorted, 0.5),
    "p99 (ms)": quantile(sorted, 0.99),
    "p99.9 (ms)": quantile(sorted, 0.999)
  }
}

/** `status`: what all answers must be. */
export const problemsOf = (name: string, status: number, result: RunResult): ReadonlyArray<string> => {
  const others = result.status.reduce((sum, one) => one === status ? sum : sum + 1, 0)
  const seen = [...new Set(result.status)].filter((one) => one !== status).map((one) => one || "no answer").join(", ")
  return [
    ...others === 0 ? [] : [`${name}: ${others} answers were not ${status} but ${seen}`],
    ...lossesOf(name, result),
    ...Object.entries(result.errors).map(([error, times]) => `${name}: ${times} × ${error}`)
  ]
}

export const lossesOf = (name: string, { altered, duplicates, missing, strays }: RunResult): ReadonlyArray<string> => [
  ...missing === 0 ? [] : [`${name}: ${missing} were not delivered`],
  ...duplicates === 0 ? [] : [`${name}: ${duplicates} were delivered more than once`],
  ...strays === 0 ? [] : [`${name}: ${strays} were refused and delivered all the same`],
  ...altered === 0 ? [] : [`${name}: ${altered} arrived with another length`]
]

const askForAllocations = Effect.fnUntraced(function*({ logFile, pid }: Contender, msg: string) {
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
