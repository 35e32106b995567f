/**
 * Overloads a server with twice what it bears: what it refuses, whether it keeps what it accepts, and when it is back
 * to normal.
 */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { contenders, startAll } from "../contenders/Contenders.ts"
import { type Round, valuesOf } from "../figures/Measures.ts"
import { peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { quantile } from "../figures/Statistics.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import type { RunResult } from "../load/Messages.ts"
import { maxOpenFiles, peakRss } from "../machine/ProcessUsage.ts"
import { lossesOf, percentiles } from "../measuring/Answers.ts"

/**
 * So many that the server is at its limit long before the load process is. The requests that it can't bear then also
 * fit into the connections for as long as they may wait. With ten backends, 15,000 new connections would overflow the
 * queue of a listener before anything is refused.
 */
const backends = 100
const payload = "pull_request"
const connections = Math.min(8_000, maxOpenFiles() - 2_000)
/** The deliveries by which the server's capacity is measured. */
const bearing = 800
/** The share of its capacity that counts as normal. */
const normal = 0.25

/** Seconds before, in and after the overload. */
interface Phases {
  readonly before: number
  readonly during: number
  readonly after: number
}

export const overload = Effect.gen(function*() {
  const { options } = yield* Setup
  const load = yield* LoadProcess
  const { servers } = yield* contenders
  const phases = { before: 5, during: options.quick ? 10 : 60, after: options.quick ? 10 : 20 }
  const figures: Record<string, Round> = {}
  const problems: Array<string> = []
  const notes: Array<string> = []
  for (const start of servers) {
    yield* Effect.scoped(Effect.gen(function*() {
      const urls = yield* load.backends(Array.from({ length: backends }, () => ({})))
      for (const { name, pid, port } of yield* startAll([start], { backends: urls })) {
        const common = { port, payload, forged: false, reached: urls.map((_, i) => i) } as const
        yield* Progress.step(`overload: ${name}: what it bears`)
        yield* load.run({ ...common, count: 500, connections: 64, due: undefined, limit: 60_000 })
        const { elapsed } = yield* load.run({
          ...common,
          count: bearing,
          connections: 64,
          due: undefined,
          limit: 60_000
        })
        const capacity = bearing / elapsed * 1_000
        yield* Progress.step(`overload: ${name}: ${Math.round(2 * capacity)}/s for ${phases.during} s`)
        const due = schedule(capacity, phases)
        const seconds = phases.before + phases.during + phases.after
        const result = yield* load.run({
          ...common,
          due,
          connections,
          count: due.length,
          limit: (seconds + 30) * 1_000
        })
        figures[name] = { ...figuresOf(result, capacity, phases), [peakMemory]: peakRss(pid) }
        problems.push(...lossesOf(name, result), ...unwelcome(name, result))
        notes.push(
          `${name}: p99 of each second after it (ms): ${secondsAfter(result, phases).map(Math.round).join(" ")}`
        )
      }
      yield* load.disconnect
    }))
  }
  return [{
    group: "overload",
    name: `twice the load it bears for ${phases.during} s, pull_request to ${backends} backends`,
    setting: `open loop, up to ${connections.toLocaleString("en")} connections; before and after it ${normal * 100} %`,
    // GitHub hangs up after 10 s.
    measures: valuesOf(figures, { "slowest 503 (ms)": { on: "value", atMost: 10_000 } }),
    headlines: ["answered 503 (/s)", "slowest 503 (ms)", peakMemory, "back to normal (s)"],
    notes,
    problems
  }] satisfies ReadonlyArray<ScenarioResult>
})

/** When each request is due. */
const schedule = (capacity: number, { after, before, during }: Phases): Float64Array => {
  const due: Array<number> = []
  let at = 0
  while (at < (before + during + after) * 1_000) {
    due.push(at)
    const isOver = at >= before * 1_000 && at < (before + during) * 1_000
    at += 1_000 / (capacity * (isOver ? 2 : normal))
  }
  return Float64Array.from(due)
}

const figuresOf = (result: RunResult, capacity: number, phases: Phases): Round => {
  const [start, end] = [phases.before * 1_000, (phases.before + phases.during) * 1_000]
  const answers = answersOf(result)
  const over = answers.filter(({ due }) => due >= start && due < end)
  const normally = p99(answers.filter(({ due }) => due < start))
  const refused = sorted(answers.filter(({ status }) => status === 503))
  const late = secondsAfter(result, phases).findLastIndex((one) => !(one <= Math.max(2 * normally, 100))) + 1
  return {
    "bears (/s)": capacity,
    "offered (/s)": over.length / phases.during,
    "answered 200 (/s)": over.filter(({ status }) => status === 200).length / phases.during,
    "answered 202 (/s)": over.filter(({ status }) => status === 202).length / phases.during,
    "answered 503 (/s)": over.filter(({ status }) => status === 503).length / phases.during,
    ...refused.length === 0 ? {} : {
      "503, p50 (ms)": quantile(refused, 0.5),
      "503, p99 (ms)": quantile(refused, 0.99),
      "slowest 503 (ms)": quantile(refused, 1)
    },
    "200, p99 in it (ms)": p99(over.filter(({ status }) => status === 200)),
    "200, p99 before it (ms)": normally,
    "back to normal (s)": late,
    "connections": result.opened,
    "held back, p99 (ms)": percentiles(result.held)["p99 (ms)"] ?? Number.NaN
  }
}

interface Answer {
  readonly due: number
  /** Milliseconds since it was sent. */
  readonly latency: number
  readonly status: number
}

const answersOf = ({ due, held, latency, status }: RunResult): ReadonlyArray<Answer> =>
  Array.from(due, (at, i) => ({ due: at, latency: latency[i]! - held[i]!, status: status[i]! }))

const sorted = (answers: ReadonlyArray<Answer>) => Float64Array.from(answers, ({ latency }) => latency).toSorted()

const p99 = (answers: ReadonlyArray<Answer>): number => quantile(sorted(answers), 0.99)

const secondsAfter = (result: RunResult, { after, before, during }: Phases): ReadonlyArray<number> => {
  const answers = answersOf(result)
  return Array.from({ length: after }, (_, i) => {
    const start = (before + during + i) * 1_000
    return p99(answers.filter(({ due }) => due >= start && due < start + 1_000))
  })
}

/** Problems: a refused request gets 503, no other status, and no connection that breaks. */
const unwelcome = (name: string, { errors, status }: RunResult): ReadonlyArray<string> => {
  const others = status.filter((one) => one !== 200 && one !== 202 && one !== 503 && one !== 0)
  return [
    ...others.length === 0 ? [] : [`${name}: ${others.length} answers of ${[...new Set(others)].join(", ")}`],
    ...Object.entries(errors).map(([error, times]) => `${name}: ${times} × ${error}`)
  ]
}
