import * as OtelMetrics from "@effect/opentelemetry/OtelMetrics"
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto"
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics"
import { flushTimeout, positive } from "./Exporting.ts"

/** The service's metrics are in Effect's registry, which is all that this needs to know of them. */
export const layer = OtelMetrics.layer(() => {
  const exportIntervalMillis = positive("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
  return new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter(),
    exportIntervalMillis,
    // The reader throws where it is longer.
    exportTimeoutMillis: Math.min(positive("OTEL_METRIC_EXPORT_TIMEOUT", 30_000), exportIntervalMillis)
  })
}, { shutdownTimeout: flushTimeout })
