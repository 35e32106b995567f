import * as OtelMetrics from "@effect/opentelemetry/OtelMetrics"
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto"
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics"
import { flushTimeout, positive } from "./Exporting.ts"

/** Exports Effect's metric registry, in which all metrics of the service are. */
export const layer = OtelMetrics.layer(() => {
  const exportIntervalMillis = positive("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
  return new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter(),
    exportIntervalMillis,
    // The reader throws if its time-out is longer than its interval.
    exportTimeoutMillis: Math.min(positive("OTEL_METRIC_EXPORT_TIMEOUT", 30_000), exportIntervalMillis)
  })
}, { shutdownTimeout: flushTimeout })
