/** Metrics whose value already stands somewhere: read when they are scraped, free until then. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { MetricName } from "./Names.ts"

/** A gauge that is read by `read`, for as long as the scope lives. */
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
    Effect.map(Effect.context<never>(), (context) =>
      Metric.registerUnsafe(metric, context, { get, update: () => {}, modify: () => {} })),
    (registration) =>
      Effect.sync(() => registration.remove())
  )
