/**
 * The decoded settings, and the rules that concern more than one of them.
 *
 * **Details**
 *
 * Flags win over the environment, and a blank variable is an unset one: the manifests of the original leave some empty.
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { BlockList, isIP } from "node:net"
import type { Backend } from "../domain/Backend.ts"
import { type GivenFlags, InvalidSetting, invalidSetting, read, source } from "./Definition.ts"
import { format as formatDuration } from "./GoDuration.ts"
import { serverOf, type StoreLocation } from "./StoreLocation.ts"
import { definitions } from "./Table.ts"
import { withoutServiceLinks } from "./Variables.ts"

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
  /** None: direct mode. */
  readonly store: Option.Option<StoreLocation>
  readonly maxDeliveryAge: Duration.Duration
  readonly retryUnknown: boolean
  readonly retainDelivered: Duration.Duration
  readonly retainDead: Duration.Duration
  /** Bytes. */
  readonly storeLimit: number
  readonly shutdownDelay: Duration.Duration
  readonly shutdownGrace: Duration.Duration
  readonly logLevel: "debug" | "info" | "warn" | "error"
  readonly logFormat: "json" | "pretty"
}>()("sprayproxy/Settings") {
  /** The defaults, except where a test says otherwise; unlike `resolve` it needs no secret. */
  static readonly layerFrom = (partial: Partial<Settings["Service"]>): Layer.Layer<Settings> =>
    Layer.sync(Settings, () => ({ ...Result.getOrThrow(decode(definitions, {}, {})), ...partial }))
}

type Service = Settings["Service"]

export type Environment = Readonly<Record<string, string | undefined>>

/** All settings from the command line and the environment, or what is wrong with the first bad one. */
export const resolve = (
  flags: GivenFlags,
  env: Environment,
  options: { readonly isTerminal: boolean }
): Result.Result<Service, InvalidSetting> =>
  Result.gen(function*() {
    const settings = yield* decode(
      options.isTerminal
        ? { ...definitions, logFormat: { ...definitions.logFormat, fallback: ["pretty"] } }
        : definitions,
      flags,
      withoutServiceLinks(env)
    )
    yield* requireBeside("metricsKey", "metricsCert", settings, flags)
    yield* requireBeside("metricsCert", "metricsKey", settings, flags)
    yield* requireSecret(settings)
    return settings
  })

/** What the start should say about settings that are allowed and rarely meant: one line each. */
export const warnings = (settings: Service): ReadonlyArray<string> => {
  const longest = Duration.sum(settings.replyDeadline, settings.forwardingTimeout)
  const all: ReadonlyArray<readonly [holds: boolean, warning: string]> = [
    [
      settings.insecureSkipWebhookVerify,
      `deliveries are forwarded without a check that GitHub sent them (${flagOf("insecureSkipWebhookVerify")})`
    ],
    [
      settings.insecureSkipWebhookVerify && Option.isSome(settings.store),
      `anyone who reaches this port can fill the store: what is written down is not checked either (${
        flagOf("insecureSkipWebhookVerify")
      } beside ${flagOf("store")})`
    ],
    [
      settings.insecureSkipTlsVerify,
      `the certificates of backends are not checked (${flagOf("insecureSkipTlsVerify")})`
    ],
    [
      settings.backends.length === 0 && !settings.enableDynamicBackends,
      `no backend gets the deliveries: none is configured (${flagOf("backends")}) and none can be registered (${
        flagOf("enableDynamicBackends")
      })`
    ],
    [
      settings.enableDynamicBackends && !isLoopback(settings.host),
      `/backends has no authentication of its own, the sidecar is its guard: anyone who reaches this port can register a backend (${
        flagOf("host")
      } 127.0.0.1 would keep it to this pod)`
    ],
    [
      Option.isSome(settings.store) && !isLoopback(settings.host),
      `/deliveries has no authentication of its own, the sidecar is its guard: anyone who reaches this port can read stored payloads (${
        flagOf("host")
      } 127.0.0.1 would keep it to this pod)`
    ],
    [
      Duration.isLessThan(settings.shutdownGrace, longest),
      `${flagOf("shutdownGrace")} ${
        formatDuration(settings.shutdownGrace)
      } is below reply deadline + forwarding timeout, ${formatDuration(longest)}: a shutdown can cut deliveries off`
    ]
  ]
  return [
    ...all.flatMap(([holds, warning]) => holds ? [warning] : []),
    ...Option.match(settings.store, { onNone: () => [], onSome: storeWarnings })
  ]
}

const storeWarnings = (location: StoreLocation): ReadonlyArray<string> => {
  if (location.kind === "sqlite") return []
  const { host, ignored, sslmode } = serverOf(location.url)
  const url = `the url of the store (${flagOf("store")})`
  const isNear = host.startsWith("/") || isLoopback(host)
  const unencrypted = isNear
    ? []
    : sslmode === undefined || sslmode === "disable"
    ? [
      `deliveries go to PostgreSQL unencrypted: ${url} has ${sslmode === undefined ? "no sslmode" : "sslmode=disable"}`
    ]
    : sslmode === "prefer" || sslmode === "allow"
    ? [
      `deliveries may go to PostgreSQL unencrypted: ${url} has sslmode=${sslmode}, which does without encryption where ` +
      "the server has none; sslmode=verify-full does not"
    ]
    : []
  return ignored.length === 0
    ? unencrypted
    : [...unencrypted, `parameters of ${url} that mean nothing here, or are misspelt: ${ignored.join(", ")}`]
}

const flagOf = (field: keyof Service): string => `--${definitions[field].flag}`

const decode = (
  table: typeof definitions,
  flags: GivenFlags,
  env: Environment
): Result.Result<Service, InvalidSetting> => {
  const decoded = Object.entries(table).map(([field, definition]) =>
    [field, read<unknown>(definition, flags, env[definition.variable])] as const
  )
  // The table has each field of the service with its type; `fromEntries` forgets that.
  const results = Object.fromEntries(decoded) as {
    readonly [K in keyof Service]: Result.Result<Service[K], InvalidSetting>
  }
  return Result.map(Result.all(results), (settings) => ({
    ...settings,
    backends: Arr.dedupeWith(settings.backends, (one, other) => one.key === other.key)
  }))
}

const requireBeside = (
  needed: "metricsCert" | "metricsKey",
  given: "metricsCert" | "metricsKey",
  settings: Service,
  flags: GivenFlags
): Result.Result<void, InvalidSetting> =>
  Option.isSome(settings[given]) && Option.isNone(settings[needed])
    ? Result.fail(invalidSetting(source(definitions[given], flags), {
      value: settings[given].value,
      allowed: `it goes together with ${flagOf(needed)} (${definitions[needed].variable})`
    }))
    : Result.void

const requireSecret = (settings: Service): Result.Result<void, InvalidSetting> =>
  Option.isNone(settings.webhookSecret) && settings.webhookSecretFiles.length === 0 &&
    !settings.insecureSkipWebhookVerify
    ? Result.fail(
      new InvalidSetting({
        setting: `${definitions.webhookSecret.variable} or ${flagOf("webhookSecretFiles")}`,
        allowed: `one of the two is required, unless ${flagOf("insecureSkipWebhookVerify")} is set`
      })
    )
    : Result.void

const loopback = new BlockList()
loopback.addSubnet("127.0.0.0", 8)
loopback.addAddress("::1", "ipv6")

const isLoopback = (host: string): boolean =>
  host.toLowerCase() === "localhost" || (isIP(host) !== 0 && loopback.check(host, isIP(host) === 4 ? "ipv4" : "ipv6"))
