/**
 * The one table of settings: flag, variable, default, meaning. The command line, the help, the table in the docs and
 * the messages are made from it. Nothing else knows a setting's name.
 */
import { logLevels } from "../domain/LogEntry.ts"
import { backendDefinitions } from "./BackendTable.ts"
import { type Definition, many, one, optional } from "./Definition.ts"
import * as Kind from "./Kinds.ts"
import { recoveryDefinitions } from "./RecoveryTable.ts"

/** The variables of `sprayproxy deliveries`: the server's URL, and the bearer token for what guards the server. */
export const clientVariables = { url: "SPRAYPROXY_URL", token: "SPRAYPROXY_TOKEN" }

const off = { fallback: "false", bareValue: "true" }

/** All settings, each declared once. The key is the name of a setting in the code. */
export const definitions = {
  /** `""` is all interfaces, IPv4 and IPv6. */
  host: one(Kind.listenAddress, {
    flag: "host",
    variable: "SPRAYPROXY_SERVER_HOST",
    fallback: "",
    defaultText: "all interfaces",
    description: "Address to listen on."
  }),
  port: one(Kind.port, {
    flag: "port",
    variable: "SPRAYPROXY_SERVER_PORT",
    fallback: "8080",
    description: "Port to listen on; 0 takes a free one."
  }),
  /** The static backends, each once. */
  backends: many(Kind.backend, {
    flag: "backend",
    variable: "SPRAYPROXY_SERVER_BACKEND",
    separators: { flag: /,/, variable: /\s+/ },
    identity: ({ key }) => key,
    description:
      "Base URL of a backend. Repeat the flag or separate with commas; separate with spaces or newlines in " +
      "the variable."
  }),
  enableDynamicBackends: one(Kind.bool, {
    flag: "enable-dynamic-backends",
    variable: "SPRAYPROXY_SERVER_ENABLE_DYNAMIC_BACKENDS",
    ...off,
    description: "Let backends be registered and removed over HTTP, at /backends."
  }),
  insecureSkipTlsVerify: one(Kind.bool, {
    flag: "insecure-skip-tls-verify",
    variable: "SPRAYPROXY_SERVER_INSECURE_SKIP_TLS_VERIFY",
    ...off,
    description: "Take any certificate that a backend shows. Insecure."
  }),
  insecureSkipWebhookVerify: one(Kind.bool, {
    flag: "insecure-skip-webhook-verify",
    variable: "SPRAYPROXY_SERVER_INSECURE_SKIP_WEBHOOK_VERIFY",
    ...off,
    description: "Forward deliveries without checking their signature. Insecure."
  }),
  metricsPort: one(Kind.port, {
    flag: "metrics-port",
    variable: "SPRAYPROXY_SERVER_METRICS_PORT",
    fallback: "9090",
    description: "Port on which /metrics is served; 0 takes a free one."
  }),
  metricsCert: optional(Kind.path, {
    flag: "metrics-cert",
    variable: "SPRAYPROXY_SERVER_METRICS_CERT",
    description: "PEM file with the certificate for /metrics; goes together with the key. Changes of both are followed."
  }),
  metricsKey: optional(Kind.path, {
    flag: "metrics-key",
    variable: "SPRAYPROXY_SERVER_METRICS_KEY",
    description: "PEM file with the key for /metrics; goes together with the certificate."
  }),
  webhookSecret: optional(Kind.secret, {
    variable: "GH_APP_WEBHOOK_SECRET",
    secret: true,
    defaultText: "required without a secret file",
    description: "The GitHub App's webhook secret. Used only while no secret file yields one."
  }),
  webhookSecretFiles: many(Kind.path, {
    flag: "webhook-secret-file",
    variable: "GH_APP_WEBHOOK_SECRET_FILE",
    separators: { flag: undefined, variable: /[\s,]+/ },
    description:
      "File with a webhook secret; changes are followed. Several while a secret is rotated: repeat the flag; " +
      "separate with spaces or commas in the variable."
  }),
  forwardingTimeout: one(Kind.duration("above 0s"), {
    flag: "forwarding-timeout",
    variable: "SPRAYPROXY_FORWARDING_REQUEST_TIMEOUT",
    fallback: "15s",
    description: "How long a delivery may take at one backend, waiting and retries included."
  }),
  /** Bytes, inclusive. */
  maxRequestSize: one(Kind.size(1), {
    flag: "max-request-size",
    variable: "SPRAYPROXY_MAX_REQUEST_SIZE",
    fallback: "25MiB",
    description: "The largest body that is taken, inclusive: bytes, or with a unit."
  }),
  replyDeadline: one(Kind.duration("above 0s"), {
    flag: "reply-deadline",
    variable: "SPRAYPROXY_REPLY_DEADLINE",
    fallback: "9s",
    description: "When a reply goes out although backends have not answered. GitHub hangs up after 10s."
  }),
  /** Bytes. */
  bodyMemory: one(Kind.size(1024 * 1024), {
    flag: "body-memory",
    variable: "SPRAYPROXY_BODY_MEMORY",
    fallback: "96MiB",
    description: "Memory for all bodies in flight; deliveries that find none wait."
  }),
  backendConcurrency: one(Kind.count(1), {
    flag: "backend-concurrency",
    variable: "SPRAYPROXY_BACKEND_CONCURRENCY",
    fallback: "64",
    description: "Requests in flight to one backend; more wait."
  }),
  backendCa: optional(Kind.path, {
    flag: "backend-ca",
    variable: "SPRAYPROXY_BACKEND_CA",
    description: "PEM file with certificate authorities for backends, added to the system's; changes are followed."
  }),
  ...backendDefinitions,
  forwardingRetries: one(Kind.count(0, 10), {
    flag: "forwarding-retries",
    variable: "SPRAYPROXY_FORWARDING_RETRIES",
    fallback: "2",
    description: "How often a delivery that surely did not arrive is sent again."
  }),
  /** None means direct mode. */
  store: optional(Kind.store, {
    flag: "store",
    variable: "SPRAYPROXY_STORE",
    secret: false,
    defaultText: "none: nothing is kept",
    description: "Where deliveries are written down before they are answered, and kept until every backend has them: " +
      "sqlite:/path/to/file for one replica, postgres://… for any number. The variable keeps a password out of ps."
  }),
  maxDeliveryAge: one(Kind.duration("above 0s"), {
    flag: "max-delivery-age",
    variable: "SPRAYPROXY_MAX_DELIVERY_AGE",
    onlyWith: "store",
    fallback: "72h",
    description: "With a store: how long a delivery is sent again before it is given up as dead."
  }),
  retryUnknown: one(Kind.bool, {
    flag: "retry-unknown",
    variable: "SPRAYPROXY_RETRY_UNKNOWN",
    onlyWith: "store",
    fallback: "true",
    bareValue: "true",
    description:
      "With a store: send again what may have arrived (timed out, broken off). False prefers a loss to a duplicate, except after a crash."
  }),
  retainDelivered: one(Kind.duration("above 0s"), {
    flag: "retain-delivered",
    variable: "SPRAYPROXY_RETAIN_DELIVERED",
    onlyWith: "store",
    fallback: "24h",
    description: "With a store: how long the bodies of finished deliveries are kept."
  }),
  retainDead: one(Kind.duration("above 0s"), {
    flag: "retain-dead",
    variable: "SPRAYPROXY_RETAIN_DEAD",
    onlyWith: "store",
    fallback: "168h",
    description: "With a store: how long dead deliveries, and the records of all finished ones, are kept."
  }),
  /** Bytes. */
  storeLimit: one(Kind.size(1024 * 1024), {
    flag: "store-limit",
    variable: "SPRAYPROXY_STORE_LIMIT",
    onlyWith: "store",
    fallback: "10GiB",
    description: "With a store: the most it may take up. When it is full, deliveries are forwarded without it."
  }),
  ...recoveryDefinitions,
  shutdownDelay: one(Kind.duration("0s or more"), {
    flag: "shutdown-delay",
    variable: "SPRAYPROXY_SHUTDOWN_DELAY",
    fallback: "0s",
    description: "How long deliveries are still accepted after SIGTERM, while endpoints are withdrawn."
  }),
  shutdownGrace: one(Kind.duration("0s or more"), {
    flag: "shutdown-grace",
    variable: "SPRAYPROXY_SHUTDOWN_GRACE",
    fallback: "25s",
    description: "How long deliveries in flight may take to end after that."
  }),
  logLevel: one(Kind.choice(logLevels), {
    flag: "log-level",
    variable: "SPRAYPROXY_LOG_LEVEL",
    fallback: "info",
    description: "The least severe lines that are logged."
  }),
  logFormat: one(Kind.choice(["json", "pretty"]), {
    flag: "log-format",
    variable: "SPRAYPROXY_LOG_FORMAT",
    fallback: "json",
    defaultText: "json; pretty on a terminal",
    description: "How log lines are written."
  })
} satisfies Readonly<Record<string, Definition<unknown>>>

/** Every setting, decoded. */
export type SettingValues = { readonly [K in keyof typeof definitions]: Value<typeof definitions[K]> }

type Value<D> = D extends Definition<infer A> ? A : never

/** A setting's flag as it is written on the command line. */
export const flagOf = (field: keyof SettingValues): string => `--${definitions[field].flag}`
