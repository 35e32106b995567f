/**
 * The decoded settings, and the rules that concern more than one of them.
 *
 * **Details**
 *
 * Flags win over the environment. A blank variable is an unset one, because manifests of the original sprayproxy leave
 * some empty.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { type GivenFlags, InvalidSetting, invalidSetting, isGiven, read, source } from "./Definition.ts"
import { definitions, flagOf, type SettingValues } from "./Table.ts"
import { type Environment, withoutServiceLinks } from "./Variables.ts"

/** Every setting, decoded and checked. */
export interface ResolvedSettings extends SettingValues {
  /** The names of those that were given, as the user wrote them. The others have their defaults. */
  readonly given: Readonly<Partial<Record<keyof SettingValues, string>>>
}

export class Settings extends Context.Service<Settings, ResolvedSettings>()("sprayproxy/settings/Settings") {
  /** For tests: the defaults, with `partial` over them. Unlike `resolve`, this needs no secret. */
  static readonly layerFrom = (partial: Partial<ResolvedSettings>): Layer.Layer<Settings> =>
    Layer.sync(Settings, () => ({ ...Result.getOrThrow(decode(definitions, {}, {})), given: {}, ...partial }))
}

/** All settings from the command line and the environment. The failure names the first bad one. */
export const resolve = (
  flags: GivenFlags,
  env: Environment,
  options: { readonly isTerminal: boolean }
): Result.Result<ResolvedSettings, InvalidSetting> =>
  Result.gen(function*() {
    const variables = withoutServiceLinks(env)
    const settings = yield* decode(
      options.isTerminal
        ? { ...definitions, logFormat: { ...definitions.logFormat, fallback: ["pretty"] } }
        : definitions,
      flags,
      variables
    )
    for (const [given, needed] of together) yield* requireBeside(needed, given, settings, flags)
    yield* requireConfigured("backendRepositories", settings, flags)
    yield* requireConfigured("backendEvents", settings, flags)
    yield* requireSecret(settings)
    return { ...settings, given: namesOfGiven(flags, variables) }
  })

const namesOfGiven = (flags: GivenFlags, env: Environment): ResolvedSettings["given"] =>
  Object.fromEntries(
    Object.entries(definitions).flatMap(([field, definition]) =>
      isGiven(definition, flags, env[definition.variable]) ? [[field, source(definition, flags)]] : []
    )
  )

const decode = (
  table: typeof definitions,
  flags: GivenFlags,
  env: Environment
): Result.Result<SettingValues, InvalidSetting> => {
  const decoded = Object.entries(table).map(([field, definition]) =>
    [field, read<unknown>(definition, flags, env[definition.variable])] as const
  )
  // The table has each setting with its type, which `fromEntries` forgets.
  const results = Object.fromEntries(decoded) as {
    readonly [K in keyof SettingValues]: Result.Result<SettingValues[K], InvalidSetting>
  }
  return Result.all(results)
}

/** Each first one is refused without the second. */
const together = [
  ["metricsCert", "metricsKey"],
  ["metricsKey", "metricsCert"],
  ["githubAppId", "githubPrivateKeyFile"],
  ["githubPrivateKeyFile", "githubAppId"],
  ["githubAppId", "store"]
] as const

const requireBeside = (
  needed: typeof together[number][1],
  given: typeof together[number][0],
  settings: SettingValues,
  flags: GivenFlags
): Result.Result<void, InvalidSetting> => {
  const value: Option.Option<unknown> = settings[given]
  const other: Option.Option<unknown> = settings[needed]
  return Option.isSome(value) && Option.isNone(other)
    ? Result.fail(invalidSetting(source(definitions[given], flags), {
      value: String(value.value),
      allowed: `it needs ${flagOf(needed)} (${definitions[needed].variable})`
    }))
    : Result.void
}

const requireConfigured = (
  given: "backendRepositories" | "backendEvents",
  settings: SettingValues,
  flags: GivenFlags
): Result.Result<void, InvalidSetting> => {
  const keys = new Set(settings.backends.map(({ key }) => key))
  const unknown = settings[given].find(({ key }) => !keys.has(key))
  return unknown === undefined ? Result.void : Result.fail(invalidSetting(source(definitions[given], flags), {
    value: unknown.url,
    allowed: `it is the url of a ${flagOf("backends")}: ${
      settings.backends.map(({ url }) => url).join(", ") || "there is none"
    }`
  }))
}

const requireSecret = (settings: SettingValues): Result.Result<void, InvalidSetting> =>
  Option.isNone(settings.webhookSecret) && settings.webhookSecretFiles.length === 0 &&
    !settings.insecureSkipWebhookVerify
    ? Result.fail(
      new InvalidSetting({
        setting: `${definitions.webhookSecret.variable} or ${flagOf("webhookSecretFiles")}`,
        allowed: `one of the two is required, unless ${flagOf("insecureSkipWebhookVerify")} is set`
      })
    )
    : Result.void
