/**
 * Octokit as the App, with what it leaves to its users.
 *
 * **Details**
 *
 * Octokit signs the App's tokens and corrects them for GitHub's clock, follows pages, makes failed reads again, and keeps
 * requests for redelivery apart. It is made anew when the key has changed.
 *
 * A limit that GitHub has set is not waited for: it fails the request, and until it is over all others, which are not
 * made.
 *
 * **Gotchas**
 *
 * - Octokit's tokens and waits go by the system's clock, which no test can move.
 * - A next page may be named anywhere, so each address is checked before a token is signed for it.
 * - Octokit takes an answer of another kind, such as a web page, for one that is fine.
 */
import { createAppAuth } from "@octokit/auth-app"
import { Octokit } from "@octokit/core"
import { paginateRest } from "@octokit/plugin-paginate-rest"
import { retry } from "@octokit/plugin-retry"
import { throttling } from "@octokit/plugin-throttling"
import { RequestError } from "@octokit/request-error"
import Bottleneck from "bottleneck/light.js"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import packageJson from "../../../package.json" with { type: "json" }
import { Log } from "../../observability/logs/Logging.ts"
import { Settings } from "../../settings/Settings.ts"
import type { Environment } from "../../settings/Variables.ts"
import { RecoveryMetrics } from "../RecoveryMetrics.ts"
import * as AppKey from "./AppKey.ts"
import * as Connection from "./Connection.ts"
import * as Failures from "./Failures.ts"
import { keyless, limited, notTheApi, waitAfter } from "./Failures.ts"
import { warningsTo } from "./Warnings.ts"

/** The App whose log is read. */
export interface GitHubApp {
  readonly id: number
  readonly keyFile: string
}

export interface ClientOptions {
  readonly env: Environment
  /** Milliseconds before a failed read is made again for the first time. */
  readonly pause: number
}

/**
 * `octokit` is the client with the key of now. Its requests fail with `GitHubUnavailable`. Only a refusal that is about
 * one attempt (`isRefusal`) stays as it is.
 */
export const make = Effect.fnUntraced(function*(app: GitHubApp, { env, pause }: ClientOptions) {
  const { githubApiUrl: apiUrl, recoveryPace } = yield* Settings
  const metrics = yield* RecoveryMetrics
  const clock = yield* Clock.Clock
  const warn = warningsTo(yield* Log)
  const key = yield* AppKey.follow(app.keyFile)
  const { fetch, isProxied } = yield* Connection.make(apiUrl, env)
  const place = { appId: app.id, apiUrl, isProxied }
  const write = new Bottleneck.Group({ maxConcurrent: 1, minTime: Duration.toMillis(recoveryPace) })
  const now = () => clock.currentTimeMillisUnsafe()
  let limitedUntil = 0

  /** The failure of a request that was made. */
  const failed = (error: unknown) => {
    const wait = waitAfter(error, now())
    if (wait !== undefined) limitedUntil = now() + wait
    const failure = Failures.failureOf(error, place, wait)
    metrics.gitHubFailed(failure.kind)
    return failure
  }
  const observed: Connection.Fetch = async (url, init) => {
    const response = await fetch(url, init)
    const left = response.headers.get("x-ratelimit-remaining")
    if (left !== null && /^\d+$/.test(left)) metrics.rateLimitLeft(Number(left))
    return response
  }
  const octokitWith = (pem: Redacted.Redacted<string>) => {
    const octokit = new OctokitWithPlugins({
      authStrategy: createAppAuth,
      auth: { appId: app.id, privateKey: Redacted.value(pem) },
      baseUrl: apiUrl,
      userAgent: `sprayproxy/${packageJson.version}`,
      request: { fetch: observed },
      log: { debug: () => {}, info: () => {}, warn, error: warn },
      retry: { doNotRetry: notRetried, retries: 2, retryAfterBaseValue: pause },
      throttle: { write, onRateLimit: () => false, onSecondaryRateLimit: () => false }
    })
    octokit.hook.wrap("request", async (request, options) => {
      const wait = limitedUntil - now()
      if (wait > 0) throw limited(wait, place)
      options.headers["x-github-api-version"] = apiVersion
      try {
        if (!isBelow(apiUrl, options.url)) throw notTheApi(`${apiUrl} names a page that is elsewhere`)
        const response = await request(options)
        const fault = faultOf(response, options.method)
        if (fault !== undefined) throw notTheApi(`${apiUrl} ${fault}`)
        return response
      } catch (error) {
        throw "delivery_id" in options && isRefusal(error) ? error : failed(error)
      }
    })
    return octokit
  }

  let made: { readonly pem: Redacted.Redacted<string>; readonly octokit: OctokitWithPlugins } | undefined
  const octokit = Effect.suspend(() => {
    const { fault = "", pem } = key()
    if (pem === undefined) return Effect.fail(failed(keyless(app.keyFile, fault)))
    if (made?.pem !== pem) made = { pem, octokit: octokitWith(pem) }
    return Effect.succeed(made.octokit)
  })
  /** The failure of a client's request, in its type. */
  const failureOf = (error: unknown) => Failures.failureOf(error, place, undefined)
  return { octokit, failed, failureOf }
})

/** GitHub's answer that it will not do this, or does not have it. */
export const isRefusal = (error: unknown): error is RequestError =>
  error instanceof RequestError && [400, 404, 422].includes(error.status) && typeof error.response?.data === "object"

const OctokitWithPlugins = Octokit.plugin(paginateRest, retry, throttling)
type OctokitWithPlugins = InstanceType<typeof OctokitWithPlugins>

/** https://docs.github.com/rest/about-the-rest-api/api-versions */
const apiVersion = "2022-11-28"

/** The plugin's own list, and limits. */
const notRetried = [400, 401, 403, 404, 410, 422, 429, 451]

const isBelow = (apiUrl: string, url: string): boolean => url.startsWith("/") || url.startsWith(`${apiUrl}/`)

/** How an answer shows that the API has not given it. */
const faultOf = (
  { data, status }: { readonly data: unknown; readonly status: number },
  method: string
): string | undefined =>
  status >= 300
    ? `answers ${status}, which leads elsewhere`
    : method === "GET" && (typeof data !== "object" || data === null)
    ? `answers ${status} with no JSON`
    : undefined
