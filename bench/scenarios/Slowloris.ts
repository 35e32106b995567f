/** Measures whether a thousand connections that send a byte a second keep a real delivery waiting. */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { contenders, startAll } from "../contenders/Contenders.ts"
import { measuresOf, type Round } from "../figures/Measures.ts"
import { peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import { peakRss } from "../machine/ProcessUsage.ts"
import { percentiles, problemsOf, steady } from "../measuring/Answers.ts"

const slowSenders = 1_000
const rate = 50

export const slowloris = Effect.gen(function*() {
  const { options } = yield* Setup
  const load = yield* LoadProcess
  const { unlogged } = yield* contenders
  const count = rate * (options.quick ? 4 : 20)
  const problems: Array<string> = []
  const figures: Record<string, Round> = {}
  for (const start of unlogged) {
    yield* Effect.scoped(Effect.gen(function*() {
      const surroundings = { backends: yield* load.backends([{}, {}, {}]) }
      for (const { name, pid, port } of yield* startAll([start], surroundings)) {
        const run = Effect.fnUntraced(function*(when: string) {
          yield* Progress.step(`slowloris: ${name}: ${when}`)
          const result = yield* load.run({
            port,
            count,
            payload: "push",
            forged: false,
            connections: 500,
            due: steady(rate, count),
            reached: [0, 1, 2],
            limit: 120_000
          })
          problems.push(...problemsOf(name, 200, result))
          const { "p50 (ms)": p50 = Number.NaN, "p99 (ms)": p99 = Number.NaN } = percentiles(result.latency)
          return { [`p50 ${when} (ms)`]: p50, [`p99 ${when} (ms)`]: p99 }
        })
        yield* run("warming up")
        const without = yield* run("without them")
        yield* load.slowSenders(port, slowSenders)
        yield* Effect.sleep("1 second")
        const beside = yield* run("beside them")
        const cuts = yield* load.disconnect
        figures[name] = { ...without, ...beside, "slow senders cut off": cuts, [peakMemory]: peakRss(pid) }
      }
    }))
  }
  return [{
    group: "slowloris",
    name: `${slowSenders.toLocaleString("en")} senders of a byte a second beside pushes to 3 backends`,
    setting: `${count} pushes at ${rate}/s, open loop`,
    measures: measuresOf([[figures]]),
    headlines: ["p99 without them (ms)", "p99 beside them (ms)"],
    notes: ["The floor cuts nobody off before Node's own five minutes."],
    problems: [...new Set(problems)]
  }] satisfies ReadonlyArray<ScenarioResult>
})
