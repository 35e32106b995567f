import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { InvalidSetting } from "../../src/settings/Definition.ts"
import { resolve, Settings } from "../../src/settings/Settings.ts"
import { definitions, type SettingValues } from "../../src/settings/Table.ts"
import type { Environment } from "../../src/settings/Variables.ts"
import { warnings } from "../../src/settings/Warnings.ts"

type Service = Settings["Service"]
type Flags = Parameters<typeof resolve>[0]

const secretEnv = { GH_APP_WEBHOOK_SECRET: "s3cret" }

const settingsOf = (flags: Flags, env: Environment = {}, isTerminal = false): Service =>
  Result.getOrThrow(resolve(flags, { ...secretEnv, ...env }, { isTerminal }))

const errorOf = (flags: Flags, env: Environment = secretEnv): InvalidSetting =>
  Result.getOrThrow(Result.flip(resolve(flags, env, { isTerminal: false })))

/**
 * Values in a form that can be compared: durations as milliseconds, backends as their keys, options and secrets opened.
 */
const plain = (value: unknown): unknown => {
  if (Duration.isDuration(value)) return Duration.toMillis(value)
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  if (Option.isOption(value)) return Option.isSome(value) ? plain(value.value) : "none"
  if (Array.isArray(value)) return value.map((item: { readonly key?: string }) => item.key ?? item)
  return value
}

const fields = Object.keys(definitions) as ReadonlyArray<keyof SettingValues>

/** A text that is not the default, and what it means. */
const samples: { readonly [K in keyof SettingValues]: readonly [text: string, value: unknown, usual: unknown] } = {
  host: ["10.0.0.1", "10.0.0.1", ""],
  port: ["81", 81, 8080],
  backends: ["https://a.example.com/base/", ["https://a.example.com/base"], []],
  enableDynamicBackends: ["true", true, false],
  insecureSkipTlsVerify: ["true", true, false],
  insecureSkipWebhookVerify: ["true", true, false],
  metricsPort: ["91", 91, 9090],
  metricsCert: ["/tls/crt", "/tls/crt", "none"],
  metricsKey: ["/tls/key", "/tls/key", "none"],
  webhookSecret: ["another", "another", "s3cret"],
  webhookSecretFiles: ["/run/secret", ["/run/secret"], []],
  forwardingTimeout: ["1m30s", 90_000, 15_000],
  maxRequestSize: ["1KiB", 1024, 26_214_400],
  replyDeadline: ["700ms", 700, 9000],
  bodyMemory: ["2097152", 2_097_152, 100_663_296],
  backendConcurrency: ["1", 1, 64],
  backendCa: ["/ca.pem", "/ca.pem", "none"],
  dynamicBackendAllow: ["*.Apps.example.com", ["*.apps.example.com"], []],
  dynamicBackendLimit: ["0", 0, 1000],
  dynamicBackendTtl: ["24h", 86_400_000, "none"],
  dynamicBackendDeadAfter: ["72h", 259_200_000, "none"],
  dynamicBackendRepositories: ["Org/Repo", ["org/repo"], []],
  backendRepositories: ["https://a.example.com/base/=Org/*,org/repo", ["https://a.example.com/base"], []],
  backendEvents: ["https://a.example.com/base/=push", ["https://a.example.com/base"], []],
  forwardingRetries: ["10", 10, 2],
  store: ["sqlite:/d.db", { kind: "sqlite", path: "/d.db" }, "none"],
  maxDeliveryAge: ["1h", 3_600_000, 259_200_000],
  retryUnknown: ["false", false, true],
  retainDelivered: ["1h", 3_600_000, 86_400_000],
  retainDead: ["1h", 3_600_000, 604_800_000],
  storeLimit: ["2MiB", 2_097_152, 10_737_418_240],
  githubAppId: ["17", 17, "none"],
  githubPrivateKeyFile: ["/key.pem", "/key.pem", "none"],
  githubApiUrl: ["https://GHE.example.com/api/v3/", "https://ghe.example.com/api/v3", "https://api.github.com"],
  recoveryInterval: ["5m", 300_000, 60_000],
  recoveryMaxAge: ["168h", 604_800_000, 259_200_000],
  recoveryPace: ["0s", 0, 1000],
  shutdownDelay: ["5s", 5000, 0],
  shutdownGrace: ["1h", 3_600_000, 25_000],
  logLevel: ["DEBUG", "debug", "info"],
  logFormat: ["pretty", "pretty", "json"]
}

/** The variables without which a setting is refused. */
const neededBy: { readonly [K in keyof SettingValues]?: Environment } = {
  metricsCert: { SPRAYPROXY_SERVER_METRICS_KEY: "/k" },
  metricsKey: { SPRAYPROXY_SERVER_METRICS_CERT: "/c" },
  backendRepositories: { SPRAYPROXY_SERVER_BACKEND: "https://a.example.com/base" },
  backendEvents: { SPRAYPROXY_SERVER_BACKEND: "https://a.example.com/base" },
  githubAppId: { SPRAYPROXY_GITHUB_PRIVATE_KEY_FILE: "/k", SPRAYPROXY_STORE: "sqlite:/d.db" },
  githubPrivateKeyFile: { SPRAYPROXY_GITHUB_APP_ID: "17", SPRAYPROXY_STORE: "sqlite:/d.db" }
}

describe("every setting", () => {
  const flagged = fields.filter((field) => definitions[field].flag !== undefined)

  it.each(fields)("%s has its default", (field) => {
    assert.deepStrictEqual(plain(settingsOf({})[field]), samples[field][2])
  })

  it.each(fields)("%s is read from its variable", (field) => {
    const settings = settingsOf({}, { ...neededBy[field], [definitions[field].variable]: samples[field][0] })
    assert.deepStrictEqual(plain(settings[field]), samples[field][1])
  })

  it.each(fields)("a blank variable for %s is an unset one", (field) => {
    for (const blank of ["", " ", "\n"]) {
      const env = { GH_APP_WEBHOOK_SECRET_FILE: "/f", [definitions[field].variable]: blank }
      if (field === "webhookSecret") assert.strictEqual(plain(settingsOf({}, env).webhookSecret), "none")
      else if (field === "webhookSecretFiles") assert.deepStrictEqual(settingsOf({}, env).webhookSecretFiles, [])
      else assert.deepStrictEqual(plain(settingsOf({}, env)[field]), samples[field][2])
    }
  })

  it.each(flagged)("%s is read from its flag, before its variable", (field) => {
    const { flag, variable } = definitions[field]
    const settings = settingsOf({ [`${flag}`]: [samples[field][0]] }, { ...neededBy[field], [variable]: "\"bad\"" })
    assert.deepStrictEqual(plain(settings[field]), samples[field][1])
  })

  it("is one flag and one variable of its own", () => {
    const flags = flagged.map((field) => definitions[field].flag)
    const variables = fields.map((field) => definitions[field].variable)
    assert.strictEqual(new Set(flags).size, flagged.length)
    assert.strictEqual(new Set(variables).size, fields.length)
    assert.deepStrictEqual(fields.filter((field) => !flagged.includes(field)), ["webhookSecret"])
  })
})

const keys = (flags: Flags, env: Environment = {}) => settingsOf(flags, env).backends.map(({ key }) => key)

describe("several values", () => {
  const both = ["http://a", "http://b"]

  it("backends repeat and split on commas in the flag", () => {
    assert.deepStrictEqual(keys({ backend: both }), both)
    assert.deepStrictEqual(keys({ backend: ["http://a, http://b,"] }), both)
  })

  it("backends split on white space alone in the variable", () => {
    assert.deepStrictEqual(keys({}, { SPRAYPROXY_SERVER_BACKEND: "\thttp://a\r\n http://b\n" }), both)
    for (
      const [text, named] of [["http://a,http://b"], ["http://a, http://b", "http://a,"], ["http://a/x,"]] as const
    ) {
      assert.strictEqual(
        errorOf({}, { ...secretEnv, SPRAYPROXY_SERVER_BACKEND: text }).message,
        `invalid SPRAYPROXY_SERVER_BACKEND "${named ?? text}": each backend is one url: commas separate them in the ` +
          "flag, white space in the variable"
      )
    }
  })

  it("equal backends are one, the first that was written", () => {
    const { backends } = settingsOf({ backend: ["http://A:80/,http://b", "http://a"] })
    assert.deepStrictEqual(backends.map(({ url }) => url), ["http://A:80/", "http://b"])
  })

  it("secret files and host patterns split on white space and commas in the variable", () => {
    const settings = settingsOf({}, {
      GH_APP_WEBHOOK_SECRET_FILE: "/a,/b\n/c",
      SPRAYPROXY_DYNAMIC_BACKEND_ALLOW: "a.example *.b.example,10.0.0.1, ::1 *"
    })
    assert.deepStrictEqual(settings.webhookSecretFiles, ["/a", "/b", "/c"])
    assert.deepStrictEqual(settings.dynamicBackendAllow, ["a.example", "*.b.example", "10.0.0.1", "::1", "*"])
  })

  it("a secret file's flag is one path, whatever is in it", () => {
    assert.deepStrictEqual(settingsOf({ "webhook-secret-file": ["/a b,c", "/d"] }).webhookSecretFiles, ["/a b,c", "/d"])
  })

  it("of a flag with one value the last counts, as in Go", () => {
    assert.strictEqual(settingsOf({ port: ["x", "81"] }).port, 81)
  })

  it("an empty flag takes away what the variable gives", () => {
    const env = { SPRAYPROXY_SERVER_BACKEND: "http://a", SPRAYPROXY_BACKEND_CA: "/ca" }
    const settings = settingsOf({ backend: [""], "backend-ca": [""] }, env)
    assert.deepStrictEqual(settings.backends, [])
    assert.isTrue(Option.isNone(settings.backendCa))
  })
})

describe("values", () => {
  it.each(["1", "t", "T", "TRUE", "true", "True"])("%s switches on", (word) => {
    assert.isTrue(settingsOf({ "enable-dynamic-backends": [word] }).enableDynamicBackends)
    assert.isTrue(
      settingsOf({}, { SPRAYPROXY_SERVER_ENABLE_DYNAMIC_BACKENDS: ` ${word}\n` }).enableDynamicBackends
    )
  })

  it.each(["0", "f", "F", "FALSE", "false", "False"])("%s switches off", (word) => {
    const env = { SPRAYPROXY_SERVER_ENABLE_DYNAMIC_BACKENDS: "true" }
    assert.isFalse(settingsOf({ "enable-dynamic-backends": [word] }, env).enableDynamicBackends)
  })

  it.each([["[::1]", "::1"], ["::", "::"], ["0.0.0.0", "0.0.0.0"], ["localhost", "localhost"], ["", ""]])(
    "--host %s listens on %s",
    (text, host) => {
      assert.strictEqual(settingsOf({ host: [text] }).host, host)
    }
  )

  it.each([
    ["--forwarding-retries", "0"],
    ["--shutdown-delay", "0"],
    ["--forwarding-timeout", "1ns"],
    ["--max-request-size", "1"],
    ["--body-memory", "1MiB"],
    ["--port", "0"],
    ["--port", "65535"],
    ["--shutdown-grace", "596h"],
    ["--github-api-url", "http://127.0.0.1:8080"],
    ["--github-api-url", "http://[::1]:8080/api/v3"],
    ["--github-api-url", "http://localhost"]
  ])("%s %s is allowed", (flag, text) => {
    assert.doesNotThrow(() => settingsOf({ [flag.slice(2)]: [text] }))
  })

  it("logs are pretty on a terminal unless something else is said", () => {
    assert.strictEqual(settingsOf({}, {}, true).logFormat, "pretty")
    assert.strictEqual(settingsOf({}, { SPRAYPROXY_LOG_FORMAT: "json" }, true).logFormat, "json")
    assert.strictEqual(settingsOf({ "log-format": ["json"] }, {}, true).logFormat, "json")
  })

  it("a secret is taken byte for byte", () => {
    assert.strictEqual(plain(settingsOf({}, { GH_APP_WEBHOOK_SECRET: " a b\n" }).webhookSecret), " a b\n")
  })
})

const port = "a port is a whole number from 0 to 65535"
const duration = (least: string) => `a duration is like 15s, 1m30s or 700ms, ${least}, at most 596h`
const size = (least: string) => `a size is a whole number of bytes, or one with a unit like 25MiB, at least ${least}`
const word = "a switch is one of 1, t, T, TRUE, true, True, 0, f, F, FALSE, false, False"
const pattern = "a pattern is a host name, *. and a host name, * for all names, or an IP address"
const retries = "a count is a whole number from 0 to 10"
const appId = "an App id is a whole number of at least 1, as on the App's page; its client id (Iv…) is not meant"
const apiUrl = "the API is at https://api.github.com, or on GitHub Enterprise Server at https://HOST/api/v3"

const bad: ReadonlyArray<readonly [flag: string, text: string, allowed: string]> = [
  ["host", "a b", "a host is an IP address or a host name"],
  ["host", "256.1.1.1", "a host is an IP address or a host name"],
  ["host", "localhost:80", "a host is an IP address or a host name"],
  ["port", "65536", port],
  ["port", "-1", port],
  ["port", "010", port],
  ["port", "8e3", port],
  ["port", "80.5", port],
  ["port", " 80", port],
  ["port", "", port],
  ["metrics-port", "http", port],
  ["backend", "ftp://a", "a backend url starts with http:// or https://"],
  ["enable-dynamic-backends", "yes", word],
  ["insecure-skip-tls-verify", "tRUE", word],
  ["insecure-skip-webhook-verify", "", word],
  ["forwarding-timeout", "15", duration("above 0s")],
  ["forwarding-timeout", "0", duration("above 0s")],
  ["reply-deadline", "-1s", duration("above 0s")],
  ["reply-deadline", "597h", duration("above 0s")],
  ["shutdown-delay", "-1ns", duration("0s or more")],
  ["shutdown-grace", "1d", duration("0s or more")],
  ["max-request-size", "0", size("1B")],
  ["max-request-size", "25M", size("1B")],
  ["body-memory", "1048575", size("1MiB")],
  ["backend-concurrency", "0", "a count is a whole number of at least 1"],
  ["dynamic-backend-limit", "-1", "a count is a whole number of at least 0"],
  ["dynamic-backend-limit", "9007199254740992", "a count is a whole number of at least 0"],
  ["forwarding-retries", "11", retries],
  ["dynamic-backend-allow", "*.", pattern],
  ["dynamic-backend-allow", "a.*.example", pattern],
  ["dynamic-backend-allow", "*example.com", pattern],
  ["dynamic-backend-allow", "https://a.example", pattern],
  ["dynamic-backend-allow", "a.example:443", pattern],
  ["dynamic-backend-allow", "a..example", pattern],
  ["dynamic-backend-allow", "*.10.0.0.1", pattern],
  ["github-app-id", "Iv23liABCDEF", appId],
  ["github-app-id", "0", appId],
  ["github-app-id", "my-app", appId],
  ["github-api-url", "api.github.com", apiUrl],
  ["github-api-url", "https://", apiUrl],
  ["github-api-url", "http://ghe.example.com/api/v3", `http is for loopback only: ${apiUrl}`],
  ["github-api-url", "https://github.com", `a website's address is not its API's: ${apiUrl}`],
  ["github-api-url", "https://www.github.com/apps/x", `a website's address is not its API's: ${apiUrl}`],
  ["recovery-interval", "0s", duration("above 0s")],
  ["recovery-max-age", "3d", duration("above 0s")],
  ["recovery-pace", "-1s", duration("0s or more")],
  ["log-level", "trace", "it is one of debug, info, warn, error"],
  ["log-format", "text", "it is one of json, pretty"]
]

describe("a bad value", () => {
  it.each(bad)("of --%s, %j, names the flag, the value and what is allowed", (flag, text, allowed) => {
    assert.strictEqual(errorOf({ [flag]: [text] }).message, `invalid --${flag} ${JSON.stringify(text)}: ${allowed}`)
  })

  it.each(bad.filter(([, text]) => text.trim() === text && text !== ""))(
    "for --%s, %j, names the variable when it comes from there",
    (flag, text, allowed) => {
      const variable = Object.values(definitions).find((definition) => definition.flag === flag)?.variable ?? ""
      const error = errorOf({}, { ...secretEnv, [variable]: text })
      assert.strictEqual(error.message, `invalid ${variable} ${JSON.stringify(text)}: ${allowed}`)
    }
  )

  it("is one typed error", () => {
    const error = errorOf({ port: ["x"] })
    assert.instanceOf(error, InvalidSetting)
    assert.deepStrictEqual([error.setting, error.value, error.allowed], ["--port", "x", port])
  })

  it("among good ones is the one that is named", () => {
    assert.include(errorOf({ backend: ["http://a,b", "http://c"] }).message, "invalid --backend \"b\"")
  })

  it("is cut at 256 characters", () => {
    assert.strictEqual(errorOf({ port: ["9".repeat(300)] }).message, `invalid --port "${"9".repeat(256)}": ${port}`)
  })

  it.prop("stays on one line whatever is in it", { text: Schema.String }, ({ text }) => {
    const { message } = errorOf({ "log-level": [`${text}\r\n\u001b[31m\u0085\u2028\u202e`] })
    assert.notMatch(message, /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e]/u)
  })

  it.each([
    ["https://user:hunter2@a.example", "https://***@a.example", "a backend url has no credentials"],
    ["https://a.example/?token=hunter2", "https://a.example/?***", "a backend url has no query"],
    ["https://a.example/#hunter2", "https://a.example/#***", "a backend url has no fragment"],
    ["user:hunter2@a.example", "***@a.example", "a backend url starts with http:// or https://"]
  ])("of a backend is shown without its secrets: %s", (url, shown, allowed) => {
    assert.strictEqual(errorOf({ backend: [url] }).message, `invalid --backend "${shown}": ${allowed}`)
  })

  it.each([
    [
      "https://user:hunter2@ghe.example.com/api/v3",
      "https://***@ghe.example.com/api/v3",
      "credentials do not belong in it"
    ],
    [
      "https://ghe.example.com/api/v3?token=hunter2",
      "https://ghe.example.com/api/v3?***",
      "a query does not belong in it"
    ],
    ["https://ghe.example.com/api/v3#hunter2", "https://ghe.example.com/api/v3#***", "a fragment does not belong in it"]
  ])("of GitHub's API is shown without its secrets: %s", (url, shown, reason) => {
    assert.strictEqual(
      errorOf({ "github-api-url": [url] }).message,
      `invalid --github-api-url "${shown}": ${reason}: ${apiUrl}`
    )
  })
})

describe("a port that Kubernetes has set for a Service", () => {
  it("is not ours", () => {
    const link = { SPRAYPROXY_SERVER_SERVICE_HOST: "10.0.0.5", SPRAYPROXY_SERVER_PORT: "tcp://10.0.0.5:8443" }
    assert.strictEqual(settingsOf({}, link).port, 8080)
    assert.strictEqual(
      errorOf({}, { ...secretEnv, SPRAYPROXY_SERVER_PORT: "tcp://10.0.0.5:8443" }).value?.slice(0, 3),
      "tcp"
    )
  })
})

describe("settings together", () => {
  const needed = "missing GH_APP_WEBHOOK_SECRET or --webhook-secret-file: one of the two is required, unless " +
    "--insecure-skip-webhook-verify is set"

  it("need a secret, a secret file, or no verification", () => {
    assert.strictEqual(errorOf({}, {}).message, needed)
    assert.strictEqual(errorOf({ "webhook-secret-file": [""] }, { GH_APP_WEBHOOK_SECRET: "" }).message, needed)
    assert.strictEqual(errorOf({ "insecure-skip-webhook-verify": ["false"] }, {}).message, needed)
    for (
      const flags of [{ "webhook-secret-file": ["/f"] }, { "insecure-skip-webhook-verify": ["true"] }] as Array<Flags>
    ) {
      assert.isTrue(Result.isSuccess(resolve(flags, {}, { isTerminal: false })))
    }
  })

  it("have a metrics certificate and a key, or neither", () => {
    assert.strictEqual(
      errorOf({ "metrics-cert": ["/c"] }).message,
      "invalid --metrics-cert \"/c\": it needs --metrics-key (SPRAYPROXY_SERVER_METRICS_KEY)"
    )
    assert.strictEqual(
      errorOf({}, { ...secretEnv, SPRAYPROXY_SERVER_METRICS_KEY: "/k" }).message,
      "invalid SPRAYPROXY_SERVER_METRICS_KEY \"/k\": it needs --metrics-cert (SPRAYPROXY_SERVER_METRICS_CERT)"
    )
  })

  it("have a GitHub App with its key and a store, or no App", () => {
    const store = { store: ["sqlite:/d.db"] }
    assert.strictEqual(
      errorOf({ "github-app-id": ["17"], ...store }).message,
      "invalid --github-app-id \"17\": it needs --github-private-key-file (SPRAYPROXY_GITHUB_PRIVATE_KEY_FILE)"
    )
    assert.strictEqual(
      errorOf(store, { ...secretEnv, SPRAYPROXY_GITHUB_PRIVATE_KEY_FILE: "/k" }).message,
      "invalid SPRAYPROXY_GITHUB_PRIVATE_KEY_FILE \"/k\": it needs --github-app-id (SPRAYPROXY_GITHUB_APP_ID)"
    )
    assert.strictEqual(
      errorOf({ "github-app-id": ["17"], "github-private-key-file": ["/k"] }).message,
      "invalid --github-app-id \"17\": it needs --store (SPRAYPROXY_STORE)"
    )
  })
})

describe("secrets", () => {
  it("are in no message and no print of the settings", () => {
    const secret = "hunter2-is-secret"
    const env = { GH_APP_WEBHOOK_SECRET: secret, SPRAYPROXY_SERVER_PORT: "x" }
    const settings = settingsOf({}, { GH_APP_WEBHOOK_SECRET: secret })
    assert.strictEqual(plain(settings.webhookSecret), secret)
    for (const shown of [errorOf({}, env).message, JSON.stringify(settings), ...warnings(settings)]) {
      assert.notInclude(shown, secret)
    }
  })
})

describe("Settings.layerFrom", () => {
  it.effect("fills in every default", () =>
    Effect.gen(function*() {
      const settings = yield* Settings
      assert.strictEqual(settings.port, 1)
      assert.deepStrictEqual(Object.keys(settings).toSorted(), [...fields, "given"].toSorted())
      for (const field of fields) {
        const fallback = field === "port" ? 1 : field === "webhookSecret" ? "none" : samples[field][2]
        assert.deepStrictEqual(plain(settings[field]), fallback, field)
      }
    }).pipe(Effect.provide(Settings.layerFrom({ port: 1 }))))
})
