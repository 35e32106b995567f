/** GitHub's API, as far as an App asks it about its webhook: https://docs.github.com/rest/apps/webhooks */
import type * as Http from "node:http"
import * as Answers from "./Answers.ts"
import type { App, RequestKind } from "./App.ts"
import { refusalOf } from "./AppToken.ts"
import type { Attempt } from "./Attempts.ts"
import type { Payload } from "./Delivery.ts"
import { primaryLimit, type Trouble } from "./Troubles.ts"

interface Answer {
  readonly status: number
  readonly body: string
  readonly link?: string
}

/** A request, understood. */
interface Call {
  readonly kind: RequestKind
  readonly url: URL
  /** Of a path that names one. */
  readonly attempt: Attempt | undefined
}

const patterns: ReadonlyArray<readonly [method: string, kind: RequestKind, pattern: RegExp]> = [
  ["GET", "app", /^\/app$/],
  ["GET", "config", /^\/app\/hook\/config$/],
  ["GET", "page", /^\/app\/hook\/deliveries$/],
  ["GET", "detail", /^\/app\/hook\/deliveries\/([^/]+)$/],
  ["POST", "redelivery", /^\/app\/hook\/deliveries\/([^/]+)\/attempts$/]
]

const problem = (status: number, message: string, errors?: ReadonlyArray<Payload>): Answer => ({
  status,
  body: Answers.problem(status, message, errors)
})

const notFound = problem(404, "Not Found")

/** Serves the API below a path: `/api/v3` on a GitHub Enterprise Server. */
export const serve = (app: App, base: string): Http.RequestListener => (request, response) => {
  request.resume()
  const call = callOf(app, request, base)
  const { kind } = call
  const guid = call.attempt?.delivery.guid
  const noted = { kind, guid, target: request.url!, at: app.now(), port: request.socket.localPort!, status: 0 }
  app.requests.push(noted)
  respond(app, call, request, response)
  if (response.headersSent) noted.status = response.statusCode
}

const respond = (app: App, call: Call, request: Http.IncomingMessage, response: Http.ServerResponse) => {
  const now = app.now()
  response.setHeader("Date", new Date(now).toUTCString())
  response.setHeader("X-GitHub-Media-Type", "github.v3; format=json")
  const trouble = app.nextTrouble(call.kind) ?? spend(app, now, response)
  if (trouble !== undefined) return trouble(response)
  const { body, link, status } = answerTo(app, call, request.headers.authorization)
  if (link !== undefined) response.setHeader("Link", link)
  response.writeHead(status, { "Content-Type": "application/json; charset=utf-8" }).end(body)
  if (call.kind === "redelivery" && status === 202) app.accept(call.attempt!)
}

const callOf = (app: App, { headers, method, url: target }: Http.IncomingMessage, base: string): Call => {
  const url = new URL(target!, `http://${headers.host}`)
  const path = url.pathname.startsWith(base) ? url.pathname.slice(base.length) : ""
  for (const [verb, kind, pattern] of patterns) {
    const match = verb === method ? pattern.exec(path) : null
    if (match !== null) return { kind, url, attempt: app.log.find(match[1] ?? "") }
  }
  return { kind: "unknown", url, attempt: undefined }
}

const answerTo = (app: App, { attempt, kind, url }: Call, authorization: string | undefined): Answer => {
  const now = app.now()
  const { clientId, identity: { appId }, publicKeys: keys } = app
  const refusal = refusalOf(authorization, { appId, clientId, keys, now })
  if (refusal !== undefined) return problem(refusal.status, refusal.message)
  if (app.suspended) return problem(403, "This GitHub App has been suspended")
  if (kind === "app") return { status: 200, body: Answers.app(app.identity, clientId) }
  if (kind === "unknown" || app.hookUrl === undefined) return notFound
  if (kind === "config") return { status: 200, body: Answers.hookConfig(app.hookUrl) }
  if (kind === "page") return pageOf(app, url)
  if (attempt === undefined) return notFound
  if (kind === "redelivery") return { status: 202, body: "{}" }
  return attempt.listedAt + app.detailedAfter > now ? notFound : { status: 200, body: Answers.detail(attempt) }
}

const pageOf = (app: App, url: URL): Answer => {
  const { cursor, per_page: perPage = "30", status } = Object.fromEntries(url.searchParams)
  if (status !== undefined && status !== "success" && status !== "failure") {
    return problem(422, "Validation Failed", [{ resource: "Hook", field: "status", code: "invalid" }])
  }
  const size = Math.max(1, Math.min(Number.parseInt(perPage, 10) || 30, 100, app.longestPage))
  const page = app.log.page({ cursor, size, status }, app.now())
  if (page === undefined) return problem(400, "Invalid cursor")
  const answer = { status: 200, body: Answers.listing(page.attempts) }
  if (page.next === undefined) return answer
  const next = new URL(url)
  next.searchParams.set("cursor", page.next)
  return { ...answer, link: `<${next.href}>; rel="next"` }
}

/** Trouble, if nothing is left of the hour: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api */
const spend = ({ hour, limit }: App, now: number, response: Http.ServerResponse): Trouble | undefined => {
  if (limit === undefined) return undefined
  if (now >= hour.endsAt) Object.assign(hour, { endsAt: now + 3_600_000, used: 0 })
  const isSpent = hour.used >= limit
  if (!isSpent) hour.used += 1
  response.setHeader("X-RateLimit-Limit", limit)
  response.setHeader("X-RateLimit-Remaining", limit - hour.used)
  response.setHeader("X-RateLimit-Reset", Math.ceil(hour.endsAt / 1_000))
  response.setHeader("X-RateLimit-Used", hour.used)
  response.setHeader("X-RateLimit-Resource", "core")
  return isSpent ? primaryLimit(hour.endsAt) : undefined
}
