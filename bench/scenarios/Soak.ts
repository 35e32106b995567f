/** Measures whether memory grows: an hour's worth of deliveries at 50/s, in minutes. */
import * as Effect from "effect/Effect"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { contenders, startAll } from "../contenders/Contenders.ts"
import { type Round, valuesOf } from "../figures/Measures.ts"
import { peakMemory, type ScenarioResult } from "../figures/Scenario.ts"
import { LoadProcess } from "../load/LoadProcess.ts"
import { peakRss, rss } from "../machine/ProcessUsage.ts"
import { problemsOf, steady } from "../measuring/Answers.ts"

const anHour = 180_000
const tenths = 10
/** The share of the closed loop's rate at which deliveries are sent. */
const comfortable = 0.6

export const soak = Effect.gen(function*() {
  const { options } = yield* Setup
  const load = yield* LoadProcess
  const { unlogged } = yield* contenders
  const count = options.quick ? anHour / 20 : anHour
  const problems: Array<string> = []
  const measures = yield* Effect.scoped(Effect.gen(function*() {
    const figures: Record<string, Round> = {}
    for (const { name, pid, port } of yield* startAll(unlogged, { backends: yield* load.backends([{}, {}, {}]) })) {
      const run = (requests: number, due: Float64Array | undefined) =>
        load.run({
          port,
          due,
          payload: "push",
          forged: false,
          count: requests,
          connections: due === undefined ? 32 : 1_000,
          reached: [0, 1, 2],
          limit: 600_000
        })
      yield* Progress.step(`soak: ${name}: what it bears`)
      const { elapsed } = yield* run(8_000, undefined)
      const rate = comfortable * 8_000 / elapsed * 1_000
      const samples: Array<number> = []
      for (let i = 1; i <= tenths; i++) {
        yield* Progress.step(`soak: ${name}: ${i} of ${tenths} tenths at ${Math.round(rate)}/s`)
        problems.push(...problemsOf(name, 200, yield* run(count / tenths, steady(rate, count / tenths))))
        samples.push(rss(pid))
      }
      figures[name] = {
        "RSS at 10 % (MiB)": samples[0]!,
        "RSS at 50 % (MiB)": samples[4]!,
        "RSS at 100 % (MiB)": samples[9]!,
        // Only from the half on, because the heap still finds its size before.
        "growth, 50 to 100 % (MiB)": slope(samples.slice(4)) * 5,
        [peakMemory]: peakRss(pid),
        "rate (/s)": rate
      }
    }
    yield* load.disconnect
    return valuesOf(figures)
  }))
  return [{
    group: "soak",
    name: `${count.toLocaleString("en")} pushes to 3 backends`,
    setting: `${comfortable * 100} % of what each bears in a closed loop`,
    measures,
    headlines: ["RSS at 50 % (MiB)", "RSS at 100 % (MiB)"],
    notes: [],
    problems: [...new Set(problems)]
  }] satisfies ReadonlyArray<ScenarioResult>
})

/** The slope per step of the straight line that fits the values best. */
const slope = (values: ReadonlyArray<number>): number => {
  const middle = (values.length - 1) / 2
  const weights = values.reduce((sum, _, i) => sum + (i - middle) ** 2, 0)
  return values.reduce((sum, value, i) => sum + (i - middle) * value, 0) / weights
}
