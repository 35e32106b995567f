/** Reads the answers of a run, and finds the problems among them. */
import type { Round } from "../figures/Measures.ts"
import { quantile } from "../figures/Statistics.ts"
import type { RunResult } from "../load/Messages.ts"

/** When each of `count` requests is due, in milliseconds, at a fixed rate a second. */
export const steady = (rate: number, count: number): Float64Array =>
  Float64Array.from({ length: count }, (_, i) => i / rate * 1_000)

export const percentiles = (latency: Float64Array): Round => {
  const sorted = latency.toSorted()
  return { "p50 (ms)": quantile(sorted, 0.5), "p99 (ms)": quantile(sorted, 0.99) }
}

/** The problems of a run in which all answers must have `status`. */
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
