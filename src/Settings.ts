import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type { Backend } from "./Backend.ts"

/** Every setting, decoded and checked. */
export class Settings extends Context.Service<Settings, {
  /** Address to listen on; `""` is all interfaces, IPv4 and IPv6. */
  readonly host: string
  /** 0 takes a free port. */
  readonly port: number
  /** The static backends, each once. */
  readonly backends: ReadonlyArray<Backend>
  readonly enableDynamicBackends: boolean
  readonly insecureSkipTlsVerify: boolean
  readonly insecureSkipWebhookVerify: boolean
  readonly metricsPort: number
  readonly metricsCert: Option.Option<string>
  readonly metricsKey: Option.Option<string>
  readonly webhookSecret: Option.Option<Redacted.Redacted<string>>
  readonly webhookSecretFiles: ReadonlyArray<string>
  readonly forwardingTimeout: Duration.Duration
  /** Bytes, inclusive. */
  readonly maxRequestSize: number
  readonly replyDeadline: Duration.Duration
  /** Bytes. */
  readonly bodyMemory: number
  readonly backendConcurrency: number
  /** Path of a PEM file. */
  readonly backendCa: Option.Option<string>
  readonly dynamicBackendAllow: ReadonlyArray<string>
  readonly dynamicBackendLimit: number
  readonly forwardingRetries: number
  readonly shutdownDelay: Duration.Duration
  readonly shutdownGrace: Duration.Duration
  readonly logLevel: "debug" | "info" | "warn" | "error"
  readonly logFormat: "json" | "pretty"
}>()("sprayproxy/Settings") {}
