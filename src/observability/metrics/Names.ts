/**
 * Every metric of this program: its name and its meaning. Labels are bounded: no sender controls the value of one.
 *
 * **Details**
 *
 * The first three are those of the original sprayproxy, with its names, labels and buckets, so that dashboards go on
 * working.
 */

/** The name of a metric, and its help text. */
export interface MetricName {
  readonly name: string
  readonly help: string
}

const names: Array<string> = []
const storeNames: Array<string> = []
const recoveryNames: Array<string> = []

/** The names of the metrics that are always there, in the order of this file. */
export const metricNames: ReadonlyArray<string> = names

/** The names of the metrics that are there only with a store. */
export const storeMetricNames: ReadonlyArray<string> = storeNames

/** The names of the metrics that are there only with recovery. */
export const recoveryMetricNames: ReadonlyArray<string> = recoveryNames

const metric = (name: string, help: string): MetricName => {
  names.push(name)
  return { name, help }
}

const storeMetric = (name: string, help: string): MetricName => {
  storeNames.push(name)
  return { name, help }
}

const recoveryMetric = (name: string, help: string): MetricName => {
  recoveryNames.push(name)
  return { name, help }
}

export const inboundRequests = metric(
  "sprayproxy_http_inbound_requests_total",
  "POST requests to / and /proxy, refused ones too."
)
export const forwardedRequests = metric(
  "sprayproxy_http_forwarded_requests_total",
  "Deliveries forwarded to each backend, by the kind of error of their final outcome."
)
export const responseTime = metric(
  "sprayproxy_http_response_time_duration_seconds",
  "Time from sending a request to a backend to its status line, of all attempts that were answered."
)

export const deliveries = metric(
  "sprayproxy_deliveries_total",
  "Requests answered, by answer and by the reason of a refusal."
)
export const deliveryDuration = metric(
  "sprayproxy_delivery_duration_seconds",
  "Time from the receipt of a delivery's head to its reply, by answer."
)
export const deliveriesInFlight = metric(
  "sprayproxy_deliveries_in_flight",
  "Deliveries of which an attempt is under way."
)
export const attempts = metric("sprayproxy_attempts_total", "Attempts, by backend and final outcome.")
export const attemptDuration = metric(
  "sprayproxy_attempt_duration_seconds",
  "Time from sending a request to a backend to its status line, or to the end of the attempt without one."
)
export const attemptsInFlight = metric("sprayproxy_attempts_in_flight", "Attempts that are under way.")
export const retries = metric("sprayproxy_retries_total", "Requests sent to a backend again.")
export const lastSuccess = metric(
  "sprayproxy_backend_last_success_timestamp_seconds",
  "When a backend last took a delivery, Unix time; 0 if it never did."
)

// Only with a store. Every replica reports the whole of what the replicas share, so the greatest value counts, not the
// sum.
export const backlogDeliveries = storeMetric(
  "sprayproxy_backlog_deliveries",
  "Stored deliveries that a backend is still to get."
)
export const backlogOldestAge = storeMetric(
  "sprayproxy_backlog_oldest_age_seconds",
  "Age of the oldest stored delivery that a backend is still to get; 0 if there is none."
)
export const deadDeliveries = storeMetric(
  "sprayproxy_dead_deliveries",
  "Stored deliveries that were given up for a backend."
)
export const redeliveries = storeMetric(
  "sprayproxy_redeliveries_total",
  "Attempts that were made again from the store."
)
export const storeWriteDuration = storeMetric(
  "sprayproxy_store_write_duration_seconds",
  "Time of a transaction of the store, which many deliveries may share."
)
export const storeFallbacks = storeMetric(
  "sprayproxy_store_fallbacks_total",
  "Deliveries that were forwarded without the store, by reason."
)
export const storeOutcomesDropped = storeMetric(
  "sprayproxy_store_outcomes_dropped_total",
  "Outcomes of stored deliveries that could not be kept, by reason: those deliveries are sent again."
)
export const storeFailures = storeMetric(
  "sprayproxy_store_failures_total",
  "What the store was asked or told and failed to do, by operation."
)
export const storeUsed = storeMetric("sprayproxy_store_used_bytes", "Bytes that the store takes up.")
export const storeLimit = storeMetric("sprayproxy_store_limit_bytes", "Bytes that the store may take up.")
export const storeUp = storeMetric("sprayproxy_store_up", "1 while deliveries are written to the store, else 0.")

// Only with recovery. Missing deliveries and passes are those of the whole store, so the greatest value counts. The rest
// is known to the reconciler: counts are summed over the replicas, because each may have been it for a while.
export const loggedAttempts = recoveryMetric(
  "sprayproxy_github_attempts_total",
  "Attempts of GitHub's at delivering to this deployment, by their result in GitHub's log."
)
export const recoveryMissing = recoveryMetric(
  "sprayproxy_recovery_missing_deliveries",
  "Deliveries that GitHub has made, that never arrived, and that are not given up."
)
export const recoveryOldestAge = recoveryMetric(
  "sprayproxy_recovery_oldest_missing_age_seconds",
  "Time since the first failure of the delivery that is missing for longest; 0 if none is."
)
export const recoveryRequests = recoveryMetric(
  "sprayproxy_recovery_requests_total",
  "Requests to GitHub for missing deliveries, by GitHub's answer."
)
export const recoveryRecovered = recoveryMetric(
  "sprayproxy_recovery_recovered_total",
  "Missing deliveries that have arrived."
)
export const recoveryGivenUp = recoveryMetric(
  "sprayproxy_recovery_given_up_total",
  "Missing deliveries that were given up."
)
export const recoveryLastPass = recoveryMetric(
  "sprayproxy_recovery_last_pass_timestamp_seconds",
  "When GitHub's log was last read to the end, by kind of pass, Unix time; 0 if it never was."
)
export const recoveryFailingSince = recoveryMetric(
  "sprayproxy_recovery_failing_since_timestamp_seconds",
  "Since when GitHub's log can't be read, Unix time; 0 if it can."
)
export const recoveryHeldBack = recoveryMetric(
  "sprayproxy_recovery_held_back",
  "1 while requests are held back because nothing arrives that GitHub is asked for, else 0."
)
export const recoveryReconciler = recoveryMetric(
  "sprayproxy_recovery_reconciler",
  "1 in the process that looks for missing deliveries and asks for them, else 0."
)
export const githubErrors = recoveryMetric(
  "sprayproxy_github_api_errors_total",
  "Questions to GitHub's API that got no answer, by the kind of failure."
)
export const githubRateLimitRemaining = recoveryMetric(
  "sprayproxy_github_rate_limit_remaining",
  "Requests that GitHub's API still takes in this hour, as it said last. Absent if it has no limit."
)

export const bodyMemoryUsed = metric("sprayproxy_body_memory_used_bytes", "Memory charged for deliveries.")
export const bodyMemoryBudget = metric("sprayproxy_body_memory_budget_bytes", "Memory that may be charged.")
export const bodyMemoryWaiting = metric("sprayproxy_body_memory_waiting", "Deliveries that wait for memory.")

export const backends = metric("sprayproxy_backends", "Registered backends, by source.")
export const registryChanges = metric("sprayproxy_registry_changes_total", "Changes to the dynamic backends.")
export const webhookSecrets = metric("sprayproxy_webhook_secrets", "Webhook secrets that are accepted now.")
export const webhookSecretsChanged = metric(
  "sprayproxy_webhook_secret_changed_timestamp_seconds",
  "When the accepted webhook secrets last changed as this process saw it, or it started, Unix time."
)
export const certificateExpiry = metric(
  "sprayproxy_metrics_certificate_expiry_timestamp_seconds",
  "When the certificate of the metrics listener expires, Unix time. Absent without TLS."
)
export const logLinesDropped = metric(
  "sprayproxy_log_lines_dropped_total",
  "Log lines that were dropped because nobody read them fast enough."
)
export const buildInfo = metric("sprayproxy_build_info", "1, with the version that runs.")

// The standard names of Prometheus's client libraries.
export const cpuUser = metric("process_cpu_user_seconds_total", "User CPU time.")
export const cpuSystem = metric("process_cpu_system_seconds_total", "System CPU time.")
export const cpu = metric("process_cpu_seconds_total", "User and system CPU time.")
export const residentMemory = metric("process_resident_memory_bytes", "Resident memory.")
export const startTime = metric("process_start_time_seconds", "When the process started, Unix time.")
export const openFds = metric("process_open_fds", "Open file descriptors.")
export const maxFds = metric("process_max_fds", "Most file descriptors that may be open.")
export const heapTotal = metric("nodejs_heap_size_total_bytes", "Size of the JavaScript heap.")
export const heapUsed = metric("nodejs_heap_size_used_bytes", "Used part of the JavaScript heap.")
export const externalMemory = metric("nodejs_external_memory_bytes", "Memory of buffers outside of the heap.")
export const eventLoopLag = metric("nodejs_eventloop_lag_seconds", "Mean event loop delay since the last scrape.")
export const eventLoopLagP99 = metric(
  "nodejs_eventloop_lag_p99_seconds",
  "99th percentile of the event loop delay since the last scrape."
)
export const gcDuration = metric("nodejs_gc_duration_seconds", "Duration of garbage collections, by kind.")
