/**
 * Makes the series of metrics: those that are written when something happens (`Series`), and those that are read when
 * they are scraped (`observableGauge`, `observableCounter`).
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { MetricName } from "./Names.ts"

/** Adds to a counter, sets a gauge, or puts a value into a histogram. */
export type Recorder = (value: number) => void

/**
 * Makes series that are written while the program runs. Each is there with 0 from the beginning, before its first
 * event.
 */
export class Series {
  readonly #context: Context.Context<never>
  #onRemove: Array<() => void> | undefined

  constructor(context: Context.Context<never>) {
    this.#context = context
  }

  /** Makes series in the metric registry of the calling fiber. */
  static readonly make: Effect.Effect<Series> = Effect.map(Effect.context<never>(), (context) => new Series(context))

  counter({ help, name }: MetricName, attributes: Record<string, string> = {}): Recorder {
    let count = 0
    const metric = Metric.counter(name, { description: help, incremental: true, attributes })
    this.#register(metric, () => ({ count, incremental: true }))
    return (more) => {
      count += more
    }
  }

  gauge({ help, name }: MetricName, attributes: Record<string, string> = {}): Recorder {
    let value = 0
    this.#register(Metric.gauge(name, { description: help, attributes }), () => ({ value }))
    return (now) => {
      value = now
    }
  }

  histogram(
    { help, name }: MetricName,
    boundaries: ReadonlyArray<number>,
    attributes: Record<string, string> = {}
  ): Recorder {
    const histogram = Metric.histogram(name, { description: help, boundaries, attributes })
    histogram.valueUnsafe(this.#context)
    this.#onRemove?.push(() => Metric.removeUnsafe(histogram, this.#context))
    return (value) => histogram.updateUnsafe(value, this.#context)
  }

  #register<State>(metric: Metric.Metric<number, State>, get: () => State): void {
    const registration = registerUnsafe(metric, this.#context, get)
    this.#onRemove?.push(() => registration.remove())
  }

  /** Makes series that can be removed together. */
  removable(): { readonly series: Series; readonly remove: () => void } {
    const series = new Series(this.#context)
    const removals: Array<() => void> = series.#onRemove = []
    return { series, remove: () => removals.forEach((remove) => remove()) }
  }
}

/** One value for each key, such as a recorder for each value of a label. */
export const recordOf = <K extends string, A>(keys: ReadonlyArray<K>, f: (key: K) => A) =>
  Object.fromEntries(keys.map((key) => [key, f(key)])) as Record<K, A>

/**
 * A gauge whose value already stands somewhere. It is read by `read` at each scrape until the scope ends, and costs
 * nothing in between.
 */
export const observableGauge = (
  { help, name }: MetricName,
  read: () => number,
  attributes: Record<string, string> = {}
) => {
  const value = lastOf(read)
  return register(Metric.gauge(name, { description: help, attributes }), () => ({ value: value() }))
}

/** A counter whose count already stands somewhere. It is read by `read` at each scrape. */
export const observableCounter = ({ help, name }: MetricName, read: () => number) => {
  const count = lastOf(read)
  return register(
    Metric.counter(name, { description: help, incremental: true }),
    () => ({ count: count(), incremental: true })
  )
}

/**
 * If `read` throws, the last value stays and the scrape goes on. Reading RSS needs a descriptor, and there may be none
 * left.
 */
const lastOf = (read: () => number) => {
  let last = 0
  return (): number => {
    try {
      last = read()
    } catch {
      // The next scrape tries again.
    }
    return last
  }
}

const register = <State>(metric: Metric.Metric<number, State>, get: () => State) =>
  Effect.acquireRelease(
    Effect.map(Effect.context<never>(), (context) => registerUnsafe(metric, context, get)),
    (registration) => Effect.sync(() => registration.remove())
  )

const registerUnsafe = <State>(
  metric: Metric.Metric<number, State>,
  context: Context.Context<never>,
  get: () => State
) => Metric.registerUnsafe(metric, context, { get, update: () => {}, modify: () => {} })
