/** Scenarios in which the contenders take turns before the same backends under the same load. */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { contenders, type Start, startAll } from "../contenders/Contenders.ts"
import { measuresOf, type Round, type Targets, valuesOf } from "../figures/Measures.ts"
import { cpuPerDelivery, nginxName, peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import type { BackendSpec, Payload } from "../load/Messages.ts"
import { heapPerDelivery } from "../measuring/Allocations.ts"
import { problemsOf } from "../measuring/Answers.ts"
import { pace, paceText } from "../measuring/Pace.ts"
import { inSlots } from "../measuring/Slots.ts"

export interface FanOut {
  readonly group: string
  readonly name: string
  readonly payload: Payload
  readonly backends: ReadonlyArray<BackendSpec>
  /** The backends, by their place, that must get everything. Undefined: all. */
  readonly reached?: ReadonlyArray<number>
  readonly forged?: boolean
  readonly connections?: number
  /** Requests a second. Undefined: a closed loop. */
  readonly rate?: number
  readonly status: number
  /** Whether nginx takes part. The chart shows it, and it does nearly the same work. */
  readonly withNginx?: boolean
  readonly targets?: Targets
  readonly notes?: ReadonlyArray<string>
}

export const measure = Effect.fnUntraced(function*(scenario: FanOut) {
  const { options } = yield* Setup
  const { nginx, node, references, unlogged } = yield* contenders
  const { connections = 32, rate } = scenario
  const own = pace(options, rate === undefined ? "closed" : "open")
  const starts = rate === undefined ? [...node, ...scenario.withNginx === true ? nginx : []] : unlogged
  const label = `${scenario.group}: ${scenario.name}`

  const slots = yield* inSlots({
    ...own,
    label,
    connections,
    rate,
    payload: scenario.payload,
    forged: scenario.forged === true,
    backends: scenario.backends,
    reached: scenario.reached ?? scenario.backends.map((_, i) => i),
    start: (backends) =>
      Effect.map(
        startAll(starts, { backends }),
        (all) =>
          all.map((contender) => ({ ...contender, status: contender.name === nginxName ? 202 : scenario.status }))
      )
  })
  const heap = options.quick || rate !== undefined
    ? { measures: [], problems: [] }
    : yield* allocations(scenario, node, label)

  const peaks = Object.fromEntries(Object.entries(slots.peaks).map(([name, peak]) => [name, { [peakMemory]: peak }]))
  return {
    group: scenario.group,
    name: scenario.name,
    setting: `${rate === undefined ? `closed loop of ${connections} connections` : `${rate}/s, open loop`}, ${
      paceText(own)
    }`,
    measures: [
      ...measuresOf(slots.starts, scenario.targets, references),
      ...valuesOf(peaks, scenario.targets),
      ...heap.measures
    ],
    headlines: Object.keys(scenario.targets ?? { [cpuPerDelivery]: 0 }),
    notes: scenario.notes ?? [],
    problems: [...new Set([...slots.problems, ...heap.problems])]
  } satisfies ScenarioResult
})

/** How many requests there are for a small body to few backends. Expensive deliveries get a tenth. */
const allocationRequests = 3_000

const allocations = Effect.fnUntraced(function*(scenario: FanOut, starts: ReadonlyArray<Start>, label: string) {
  const load = yield* LoadProcess
  const problems: Array<string> = []
  const isLarge = typeof scenario.payload === "number" || scenario.backends.length > 10
  const count = allocationRequests / (isLarge ? 10 : 1)
  yield* Progress.step(`${label}: allocations`)
  const kilobytes: Record<string, Round> = {}
  const backends = yield* load.backends(scenario.backends)
  for (const contender of yield* startAll(starts, { backends, preload: "allocations.ts" })) {
    const run = Effect.tap(
      load.run({
        port: contender.port,
        payload: scenario.payload,
        forged: scenario.forged === true,
        count,
        connections: 32,
        due: undefined,
        reached: scenario.status === 400 ? [] : scenario.backends.map((_, i) => i),
        limit: 120_000
      }),
      (result) => Effect.sync(() => problems.push(...problemsOf(contender.name, scenario.status, result)))
    )
    yield* run
    kilobytes[contender.name] = { "heap per delivery (kB)": yield* heapPerDelivery(contender, count, run) }
  }
  yield* load.disconnect
  return { measures: valuesOf(kilobytes), problems }
}, Effect.scoped)
