/**
 * GitHub's failures in one line each, which names the setting to look at.
 *
 * **Gotchas**
 *
 * A line repeats some of GitHub's own words. Whoever answers in GitHub's place has seen our token and may repeat it, so
 * tokens are taken out.
 */
import { RequestError } from "@octokit/request-error"
import * as Predicate from "effect/Predicate"
import { innermostMessage, oneLine, printable } from "../../domain/Text.ts"
import { flagOf } from "../../settings/Table.ts"
import { type GitHubFailure, GitHubUnavailable } from "../GitHubLog.ts"

/** Where the App is, for the words. */
export interface Place {
  readonly appId: number
  readonly apiUrl: string
  readonly isProxied: boolean
}

/** The failure of a request. `wait`: see `waitAfter`. */
export const failureOf = (error: unknown, place: Place, wait: number | undefined): GitHubUnavailable => {
  if (error instanceof GitHubUnavailable) return error
  if (!(error instanceof RequestError)) return unavailable("failed", `GitHub was not asked: ${said(error)}`)
  if (error.response === undefined) return unreachable(error, place)
  if (wait !== undefined) return limited(wait, place)
  return answered(error, error.response.data, place)
}

const answered = (error: RequestError, data: unknown, { apiUrl, appId }: Place): GitHubUnavailable => {
  const { status } = error
  const words = `(${status}: ${said(error)})`
  if (status >= 500) return unavailable("failed", `GitHub's API fails ${words}: ${flagOf("githubApiUrl")} is ${apiUrl}`)
  if (typeof data !== "object") return notTheApi(`${apiUrl} answers ${status} with no JSON`)
  if (status === 403 && /suspend/i.test(error.message)) {
    return unavailable(
      "suspended",
      `GitHub has suspended App ${appId} or its owner ${words}: it is the App of ${flagOf("githubAppId")}`
    )
  }
  // An App that is not there is not found, although its token is what is wrong.
  if (status === 401 || status === 403 || /integration not found/i.test(error.message)) {
    return unavailable(
      "unauthorized",
      `GitHub does not let App ${appId} in ${words}: ${
        flagOf("githubPrivateKeyFile")
      } has to be a key of the App that ${flagOf("githubAppId")} names`
    )
  }
  if (status === 404) {
    return unavailable(
      "no webhook",
      `App ${appId} has no webhook ${words}: it is the App of ${flagOf("githubAppId")}, at ${apiUrl} of ${
        flagOf("githubApiUrl")
      }`
    )
  }
  return unavailable("failed", `GitHub refuses ${words}: ${flagOf("githubApiUrl")} is ${apiUrl}`)
}

const unreachable = (error: RequestError, { apiUrl, isProxied }: Place): GitHubUnavailable =>
  unavailable(
    "unreachable",
    `${apiUrl} can't be reached${isProxied ? " through the proxy" : ""} (${said(error)}): it is that of ${
      flagOf("githubApiUrl")
    }`
  )

/** Somebody else has answered. */
export const notTheApi = (observed: string): GitHubUnavailable =>
  unavailable(
    "not the API",
    `${observed}, and GitHub's API does not: ${flagOf("githubApiUrl")} of a GitHub Enterprise Server ends in /api/v3`
  )

/** There is no key. `fault` follows the file's name. */
export const keyless = (path: string, fault: string): GitHubUnavailable =>
  unavailable(
    "unauthorized",
    `there is no key of the App: ${flagOf("githubPrivateKeyFile")} ${printable(path)} ${fault}`
  )

/** Nothing may be asked for so many milliseconds. */
export const limited = (wait: number, { appId }: Pick<Place, "appId">): GitHubUnavailable =>
  unavailable(
    "limited",
    `GitHub takes no request of App ${appId} for another ${Math.ceil(wait / 1_000)} s: a longer ${
      flagOf("recoveryInterval")
    } or ${flagOf("recoveryPace")} makes fewer`
  )

/**
 * For how many milliseconds GitHub wants no further request, if it has limited this one:
 * https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#handle-rate-limit-errors-appropriately
 */
export const waitAfter = (error: unknown, now: number): number | undefined => {
  if (!(error instanceof RequestError) || error.response === undefined) return undefined
  const { "retry-after": retryAfter, "x-ratelimit-remaining": left, "x-ratelimit-reset": reset } =
    error.response.headers
  const isLimit = error.status === 429 ||
    (error.status === 403 && (retryAfter !== undefined || left === "0" || /rate limit/i.test(error.message)))
  if (!isLimit) return undefined
  const named = retryAfter !== undefined ? Number(retryAfter) * 1_000 : left === "0" ? Number(reset) * 1_000 - now : NaN
  return Number.isFinite(named) ? Math.min(Math.max(named, 1_000), longestWait) : 60_000
}

/** GitHub's hour. A longer wait would be somebody's mistake. */
const longestWait = 3_600_000

const unavailable = (kind: GitHubFailure, reason: string) => new GitHubUnavailable({ kind, reason })

/** Somebody else's words, fit for one line of ours. */
export const said = (error: unknown): string => {
  const words = error instanceof RequestError ? messageIn(error.response?.data) : undefined
  return printable(oneLine(words ?? innermostMessage(error)).replaceAll(token, "[token]")).slice(0, 200)
}

/** GitHub's own message, without the address of its documentation that Octokit appends. */
const messageIn = (answer: unknown): string | undefined =>
  Predicate.hasProperty(answer, "message") && typeof answer.message === "string" ? answer.message : undefined

/** A JSON web token: all of them begin with `{"` in base64. */
const token = /\beyJ[\w-]+(?:\.[\w-]*)*/g
