/** Measures how the cost of a delivery grows with the number of backends. */
import * as Effect from "effect/Effect"
import { cpuPerDelivery, floorName, type Measure, type ScenarioResult } from "../figures/Scenario.ts"
import { measure } from "./FanOut.ts"

const counts: ReadonlyArray<number> = [1, 3, 10, 100]

const scenario = (count: number) =>
  measure({
    group: "backends",
    name: count === 1 ? "push, 1 backend" : `push, ${count} backends`,
    payload: "push",
    backends: Array.from({ length: count }, () => ({})),
    status: 200
  })

/** `perAttempt` derives a figure from the CPU time of a delivery to each number of backends, in µs. */
const derived = (
  results: ReadonlyArray<ScenarioResult>,
  name: string,
  perAttempt: (cpu: (count: number) => number) => number,
  target?: Measure["target"]
): Measure => {
  const figures = results.map(({ measures }) => measures.find((one) => one.name === cpuPerDelivery)!.contenders)
  const valueOf = (contender: string) =>
    perAttempt((count) => figures[counts.indexOf(count)]?.[contender]?.value ?? Number.NaN)
  const floor = valueOf(floorName)
  return {
    name,
    target,
    contenders: Object.fromEntries(
      Object.keys(figures[0] ?? {}).map((contender) => {
        const value = valueOf(contender)
        const ratio = value / floor
        return [
          contender,
          contender === floorName || Number.isNaN(ratio)
            ? { value }
            : { value, ratios: { [floorName]: { median: ratio } } }
        ]
      })
    )
  }
}

export const backendCount = Effect.gen(function*() {
  const results = yield* Effect.forEach(counts, scenario)
  const growth = "per attempt, 100 to 1"
  const summary: ScenarioResult = {
    group: "backends",
    name: "CPU per attempt from 1 to 100 backends",
    setting: "from the medians above",
    measures: [
      ...counts.map((count) => derived(results, `per attempt, of ${count} (µs)`, (cpu) => cpu(count) / count)),
      derived(results, growth, (cpu) => cpu(100) / 100 / cpu(1), { on: "value", atMost: 1.2 }),
      derived(results, "one more, 1 to 100 (µs)", (cpu) => (cpu(100) - cpu(1)) / 99),
      derived(results, "one more, 1 to 10 (µs)", (cpu) => (cpu(10) - cpu(1)) / 9),
      derived(results, "one more, 10 to 100 (µs)", (cpu) => (cpu(100) - cpu(10)) / 90)
    ],
    headlines: [growth],
    notes: [],
    problems: []
  }
  return [...results, summary]
})
