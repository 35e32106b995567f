import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Definition } from "./Definition.ts"
import { format as formatDuration } from "./GoDuration.ts"
import { isLoopback } from "./Loopback.ts"
import type { ResolvedSettings } from "./Settings.ts"
import { serverOf, type StoreLocation } from "./StoreLocation.ts"
import { definitions, flagOf, type SettingValues } from "./Table.ts"

/** One line for each thing in the settings that is allowed and rarely meant. The start logs them. */
export const warnings = (settings: ResolvedSettings): ReadonlyArray<string> => {
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
      settings.enableDynamicBackends && settings.dynamicBackendRepositories.length === 0,
      `whoever registers a backend receives the deliveries of all repositories (${
        flagOf("dynamicBackendRepositories")
      } ` +
      "bounds that)"
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
      Option.isSome(settings.githubAppId) && Duration.isLessThan(settings.retainDead, settings.recoveryMaxAge),
      `${flagOf("retainDead")} ${formatDuration(settings.retainDead)} is below ${flagOf("recoveryMaxAge")}, ${
        formatDuration(settings.recoveryMaxAge)
      }: nothing is recovered that the store has forgotten`
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
    ...inVain(settings),
    ...Option.match(settings.store, { onNone: () => [], onSome: storeWarnings })
  ]
}

/** Settings that were given and mean nothing without another one. */
const inVain = (settings: ResolvedSettings): ReadonlyArray<string> =>
  Object.entries(definitions as Readonly<Record<string, Definition<unknown>>>).flatMap(([field, { onlyWith }]) => {
    const name = settings.given[field as keyof SettingValues]
    if (name === undefined || onlyWith === undefined) return []
    const other: boolean | Option.Option<unknown> = settings[onlyWith]
    return other === true || (Option.isOption(other) && Option.isSome(other))
      ? []
      : [`${name} is set and does nothing without ${flagOf(onlyWith)}`]
  })

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
