/** What it costs to write deliveries down before they are answered: durable mode beside direct mode, in the same run. */
import * as Effect from "effect/Effect"
import { join } from "node:path"
import { postgresUnavailable, startPostgres } from "../../test/support/postgres/Postgres.ts"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { type Contender, startServer } from "../contenders/Contenders.ts"
import { cpuPerDelivery, measuresOf, peakMemory, type Round, type ScenarioResult } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import { cpuTime, peakRss } from "../machine/ProcessUsage.ts"
import { percentiles, problemsOf } from "./FanOut.ts"

const toDirect = "CPU × direct mode's"

export const stores = Effect.gen(function*() {
  const { directory, options } = yield* Setup
  const load = yield* LoadProcess
  const server = options.servers[0]!
  const rounds = options.quick ? 5 : 9
  const count = options.quick ? 2_500 : 6_000
  const problems: Array<string> = []

  const unavailable = postgresUnavailable()
  const notes = [
    "CPU is the server's own: what PostgreSQL uses is not in it. SQLite's file and PostgreSQL's are on the same disk.",
    ...unavailable === undefined ? [] : [`without PostgreSQL: ${unavailable}`]
  ]

  const run = Effect.fnUntraced(function*({ name, pid, port }: Contender, requests: number) {
    const before = cpuTime(pid)
    const result = yield* load.run({
      port,
      connections: 32,
      reached: [0, 1, 2],
      payload: "push",
      forged: false,
      count: requests,
      due: undefined,
      limit: 120_000
    })
    problems.push(...problemsOf(name, name === "direct" ? 200 : 202, result))
    return { cpu: cpuTime(pid) - before, result }
  })

  const measures = yield* Effect.scoped(Effect.gen(function*() {
    const backends = yield* load.backends([{}, {}, {}])
    const startNamed = (name: string, store: ReadonlyArray<string>) =>
      Effect.map(startServer(server)({ backends, serverFlags: store }), (contender) => ({ ...contender, name }))
    const contenders: Array<Contender> = [
      yield* startNamed("direct", []),
      yield* startNamed("SQLite", ["--store", `sqlite:${join(directory, "deliveries.db")}`])
    ]
    if (unavailable === undefined) {
      const postgres = yield* startPostgres
      const url = yield* postgres.createDatabase
      contenders.push(yield* startNamed("PostgreSQL", ["--store", url]))
    }
    for (const contender of contenders) {
      yield* Progress.step(`store: warming up ${contender.name}`)
      yield* run(contender, 6_000)
    }
    const taken: Array<Record<string, Round>> = []
    for (let i = 0; i < rounds; i++) {
      yield* Progress.step(`store: round ${i + 1} of ${rounds}`)
      const round: Record<string, Round> = {}
      for (const contender of i % 2 === 0 ? contenders : contenders.toReversed()) {
        const { cpu, result } = yield* run(contender, count)
        round[contender.name] = {
          [cpuPerDelivery]: cpu / count,
          "answered (/s)": count / result.elapsed * 1_000,
          ...percentiles(result.latency)
        }
      }
      const direct = round["direct"]![cpuPerDelivery]!
      taken.push(Object.fromEntries(contenders.map(({ name }) => [name, {
        ...name === "direct" ? {} : { [toDirect]: round[name]![cpuPerDelivery]! / direct },
        ...round[name]!
      }])))
    }
    const peaks = Object.fromEntries(contenders.map(({ name, pid }) => [name, { [peakMemory]: peakRss(pid) }]))
    yield* load.disconnect
    return [...measuresOf(taken, { [toDirect]: { on: "value", atMost: 2 } }), ...measuresOf([peaks])]
  }))

  const result: ScenarioResult = {
    group: "store",
    name: "push (6.9 kB), 3 backends, written down first",
    setting: `closed loop of 32 connections, ${rounds} rounds of ${count}`,
    measures,
    headlines: [],
    notes,
    problems: [...new Set(problems)]
  }
  return [result]
})
