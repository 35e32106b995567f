/**
 * How a metric's series are made: those that are written when something happens, and those that are read when they are scraped.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { MetricName } from "./Names.ts"

/** Adds to a counter, sets a gauge, or puts a value into a histogram. */
export type Recorder = (value: number) => void

/** Makes series that are written while the program runs: each is there from 0 on, before its first event. */
export class Series {
  readonly #context: Context.Context<never>
  #onRemove: Array<() => void> | undefined

  constructor(context: Context.Context<never>) {
    this.#context = context
  }

  /** In the registry of who makes it. */
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

/** One for each value of a label. */
export const recordOf = <K extends string, A>(keys: ReadonlyArray<K>, f: (key: K) => A) =>
  Object.fromEntries(keys.map((key) => [key, f(key)])) as Record<K, A>

/** A gauge whose value already stands somewhere: read by `read`, for as long as the scope lives, and free until then. */
export const observableGauge = (
  { help, name }: MetricName,
  read: () => number,
  attributes: Record<string, string> = {}
) => {
  const value = lastOf(read)
  return register(Metric.gauge(name, { description: help, attributes }), () => ({ value: value() }))
}

/** A counter that somebody else counts. */
export const observableCounter = ({ help, name }: MetricName, read: () => number) => {
  const count = lastOf(read)
  return register(
    Metric.counter(name, { description: help, incremental: true }),
    () => ({ count: count(), incremental: true })
  )
}

/** One that can't be read stays as it was, and takes no scrape with it: RSS needs a descriptor, and there may be none left. */
const lastOf = (read: () => number) => {
  let last = 0
  return (): number => {
    try {
      last = read()
    } catch {
      // It may be read the next time.
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
