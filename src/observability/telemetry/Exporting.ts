/** What the exports of all three signals have in common: bounds from the environment, and an end. */
import * as Otel from "@opentelemetry/api"
import { getNumberFromEnv } from "@opentelemetry/core"
import * as Effect from "effect/Effect"

/** Added to the grace of the shutdown, it has to stay within the 30 s after which Kubernetes kills. */
export const flushTimeout = "2 seconds"

/** A collector that refuses what is left must not turn a clean end into a failure. */
export const flush = (provider: { readonly shutdown: () => Promise<void> }) =>
  Effect.promise(() => provider.shutdown()).pipe(
    Effect.ignoreCause,
    Effect.interruptible,
    Effect.timeoutOption(flushTimeout)
  )

/** The SDK takes some of these as they come: a queue for nothing, a delay of no time. */
export const batching = (prefix: string, scheduledDelay: number) => ({
  maxQueueSize: positive(`${prefix}_MAX_QUEUE_SIZE`, 2_048),
  maxExportBatchSize: positive(`${prefix}_MAX_EXPORT_BATCH_SIZE`, 512),
  scheduledDelayMillis: positive(`${prefix}_SCHEDULE_DELAY`, scheduledDelay),
  exportTimeoutMillis: positive(`${prefix}_EXPORT_TIMEOUT`, 30_000)
})

// Node lets a longer timer fire at once.
const largest = 2 ** 31 - 1

export const positive = (variable: string, fallback: number): number => {
  const value = getNumberFromEnv(variable) ?? fallback
  if (value > 0 && value <= largest) return value
  Otel.diag.warn(`${variable} is not between 1 and ${largest}, using the default`)
  return fallback
}
