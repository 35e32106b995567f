/** Metrics whose value already stands somewhere: read when they are scraped, free until then. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import packageJson from "../../../package.json" with { type: "json" }
import { BackendRegistry } from "../../backends/Registry.ts"
import { Spray } from "../../forwarding/Spray.ts"
import { MemoryBudget } from "../../runtime/MemoryBudget.ts"
import { Settings } from "../../settings/Settings.ts"
import { WebhookSecrets } from "../../webhook/Secrets.ts"
import * as Names from "./Names.ts"

/** A gauge that is read by `read`, for as long as the scope lives. */
export const reading = (
  { help, name }: Names.MetricName,
  read: () => number,
  attributes: Record<string, string> = {}
) => {
  const value = lastOf(read)
  return register(Metric.gauge(name, { description: help, attributes }), () => ({ value: value() }))
}

/** A counter that somebody else counts. */
export const counted = ({ help, name }: Names.MetricName, read: () => number) => {
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

/** What the services know of themselves. */
export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const budget = yield* MemoryBudget
  const registry = yield* BackendRegistry
  const spray = yield* Spray
  yield* reading(Names.buildInfo, () => 1, { version: packageJson.version, node_version: process.version })
  yield* reading(Names.deliveriesInFlight, spray.inFlight)
  yield* reading(Names.bodyMemoryUsed, () => budget.state().used)
  yield* reading(Names.bodyMemoryBudget, () => budget.state().capacity)
  yield* reading(Names.bodyMemoryWaiting, () => budget.state().waiting)
  for (const source of ["static", "dynamic"] as const) {
    const count = () => registry.snapshot().filter((backend) => backend.source === source).length
    yield* reading(Names.backends, count, { source })
  }
  if (settings.insecureSkipWebhookVerify) return
  const secrets = yield* WebhookSecrets
  yield* reading(Names.webhookSecrets, () => secrets.current().length)
  yield* reading(Names.webhookSecretsChanged, () => secrets.changedAt() / 1_000)
}))
