/** What paired measurements say: a ratio, and how sure it is. */
import { quantile } from "./Scenario.ts"

export interface Ratio {
  readonly median: number
  /** The ends of the interval that holds the true median with a probability of 95 %. */
  readonly low: number
  readonly high: number
}

const resamples = 2_000

/**
 * `starts`: for each start of the processes, the ratios of its pairs of slots.
 *
 * The interval is a bootstrap of two levels: starts are drawn first, and slots from each start that was drawn. Two processes of
 * one build differ for as long as they live, so that slots of one start alone would look surer than they are.
 */
export const ratioOf = (starts: ReadonlyArray<ReadonlyArray<number>>, random: () => number = Math.random): Ratio => {
  const draw = <A>(from: ReadonlyArray<A>): A => from[Math.floor(random() * from.length)]!
  const medians = Float64Array.from({ length: resamples }, () =>
    median(starts.flatMap(() => {
      const slots = draw(starts)
      return slots.map(() => draw(slots))
    }))).toSorted()
  return { median: median(starts.flat()), low: quantile(medians, 0.025), high: quantile(medians, 0.975) }
}

export const median = (values: ReadonlyArray<number>): number => quantile(Float64Array.from(values).toSorted(), 0.5)
