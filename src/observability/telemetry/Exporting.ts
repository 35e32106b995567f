/** The part that the exports of all three signals share: limits from the environment, and a last flush. */
import * as Otel from "@opentelemetry/api"
import { getNumberFromEnv } from "@opentelemetry/core"
import * as Effect from "effect/Effect"

/** This and the grace of the shutdown have to stay within the 30 s after which Kubernetes kills. */
export const flushTimeout = "2 seconds"

/** Sends what is left. A collector that refuses it must not turn a clean end into a failure. */
export const flush = (provider: { readonly shutdown: () => Promise<void> }) =>
  Effect.promise(() => provider.shutdown()).pipe(
    Effect.ignoreCause,
    Effect.interruptible,
    Effect.timeoutOption(flushTimeout)
  )

/** Some values are checked here, because the SDK would take them as they come: an empty queue, a delay of no time. */
export const batching = (prefix: string, scheduledDelay: number) => ({
  maxQueueSize: positive(`${prefix}_MAX_QUEUE_SIZE`, 2_048),
  maxExportBatchSize: positive(`${prefix}_MAX_EXPORT_BATCH_SIZE`, 512),
  scheduledDelayMillis: positive(`${prefix}_SCHEDULE_DELAY`, scheduledDelay),
  exportTimeoutMillis: positive(`${prefix}_EXPORT_TIMEOUT`, 30_000)
})

// Node fires a longer timer at once.
const largest = 2 ** 31 - 1

/** A variable's number, if it is above 0 and a timer can hold it. Otherwise `fallback`, with a warning. */
export const positive = (variable: string, fallback: number): number => {
  const value = getNumberFromEnv(variable) ?? fallback
  if (value > 0 && value <= largest) return value
  Otel.diag.warn(`${variable} is not between 1 and ${largest}, using the default`)
  return fallback
}
