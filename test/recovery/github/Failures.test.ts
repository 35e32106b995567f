import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"
import { closedPort } from "../../support/edges.ts"
import { App } from "../../support/github/App.ts"
import { newDelivery } from "../../support/github/Delivery.ts"
import { answered } from "../../support/github/Hook.ts"
import * as Troubles from "../../support/github/Troubles.ts"
import { json, openLog, openScripted, openStandIn } from "./OpenLog.ts"

const appId = 79_929_171

interface Case {
  readonly name: string
  readonly trouble: Troubles.Trouble
  /** How often GitHub is asked. */
  readonly requests: number
  readonly kind: string
  /** `URL` stands for that of the API. */
  readonly reason: string
}

const isKeyOf = "--github-private-key-file has to be a key of the App that --github-app-id names"
const notTheApi = "and GitHub's API does not: --github-api-url of a GitHub Enterprise Server ends in /api/v3"
const longer = "a longer --recovery-interval or --recovery-pace makes fewer"

const cases: ReadonlyArray<Case> = [
  {
    name: "401, the key is another App's",
    trouble: Troubles.refusal(401, "A JSON web token could not be decoded"),
    requests: 1,
    kind: "unauthorized",
    reason: `GitHub does not let App ${appId} in (401: A JSON web token could not be decoded): ${isKeyOf}`
  },
  {
    name: "403, and no limit",
    trouble: Troubles.refusal(403, "Resource not accessible by integration"),
    requests: 1,
    kind: "unauthorized",
    reason: `GitHub does not let App ${appId} in (403: Resource not accessible by integration): ${isKeyOf}`
  },
  {
    name: "404, there is no such App",
    trouble: Troubles.refusal(404, "Integration not found"),
    requests: 1,
    kind: "unauthorized",
    reason: `GitHub does not let App ${appId} in (404: Integration not found): ${isKeyOf}`
  },
  {
    name: "403, the App is suspended",
    trouble: Troubles.refusal(403, "This GitHub App has been suspended"),
    requests: 1,
    kind: "suspended",
    reason:
      `GitHub has suspended App ${appId} or its owner (403: This GitHub App has been suspended): it is the App of ` +
      "--github-app-id"
  },
  {
    name: "404, the App has no webhook",
    trouble: Troubles.refusal(404, "Not Found"),
    requests: 1,
    kind: "no webhook",
    reason: `App ${appId} has no webhook (404: Not Found): it is the App of --github-app-id, at URL of --github-api-url`
  },
  {
    name: "a page of HTML",
    trouble: Troubles.html(),
    requests: 1,
    kind: "not the API",
    reason: `URL answers 200 with no JSON, ${notTheApi}`
  },
  {
    name: "a page of HTML that says 404",
    trouble: Troubles.html(404),
    requests: 1,
    kind: "not the API",
    reason: `URL answers 404 with no JSON, ${notTheApi}`
  },
  {
    name: "a redirect",
    trouble: (response) => response.writeHead(302, { Location: "https://ghe.example.com/login" }).end(),
    requests: 1,
    kind: "not the API",
    reason: `URL answers 302, which leads elsewhere, ${notTheApi}`
  },
  {
    name: "JSON that is no list",
    trouble: (response) => json(response, { message: "hello" }),
    requests: 1,
    kind: "not the API",
    reason: `URL answers with another list, ${notTheApi}`
  },
  {
    name: "a list of something else",
    trouble: (response) => json(response, [{ id: 1 }]),
    requests: 1,
    kind: "not the API",
    reason: `URL answers with another list, ${notTheApi}`
  },
  {
    name: "500",
    trouble: Troubles.serverError(500),
    requests: 3,
    kind: "failed",
    reason: "GitHub's API fails (500: Server Error): --github-api-url is URL"
  },
  {
    name: "409, which Octokit takes for the end of a list",
    trouble: (response) =>
      response.writeHead(409, { "Content-Type": "application/json" }).end("{\"message\":\"Busy\"}"),
    requests: 3,
    kind: "failed",
    reason: "GitHub refuses (409: Busy): --github-api-url is URL"
  },
  {
    name: "429 with retry-after",
    trouble: (response) => response.writeHead(429, { "Retry-After": "42" }).end("slow down"),
    requests: 1,
    kind: "limited",
    reason: `GitHub takes no request of App ${appId} for another 42 s: ${longer}`
  },
  {
    name: "a secondary limit, 403 with retry-after",
    trouble: Troubles.secondaryLimit(403, 7),
    requests: 1,
    kind: "limited",
    reason: `GitHub takes no request of App ${appId} for another 7 s: ${longer}`
  },
  {
    name: "a spent hour",
    trouble: Troubles.primaryLimit(900_000),
    requests: 1,
    kind: "limited",
    reason: `GitHub takes no request of App ${appId} for another 900 s: ${longer}`
  },
  {
    name: "a limit without a time",
    trouble: Troubles.refusal(403, "You have exceeded a secondary rate limit."),
    requests: 1,
    kind: "limited",
    reason: `GitHub takes no request of App ${appId} for another 60 s: ${longer}`
  },
  {
    name: "a connection that is closed before the answer",
    trouble: Troubles.hangUp,
    requests: 3,
    kind: "unreachable",
    reason: "URL can't be reached (other side closed): it is that of --github-api-url"
  },
  {
    name: "an answer that breaks off",
    trouble: (response) => {
      response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 1_000 }).write("[]")
      response.socket?.end()
    },
    requests: 3,
    kind: "unreachable",
    reason: "URL can't be reached (other side closed): it is that of --github-api-url"
  }
]

describe("a failure of GitHub's", () => {
  it.effect.each(cases)(
    "is one line that names the setting, and the next look goes well: $name",
    (one) =>
      withFreshMetrics(Effect.gen(function*() {
        const { app, failure, pages, url } = yield* openStandIn()
        app.record(newDelivery("push"), answered(503))
        app.trouble(one.trouble, { times: one.requests })
        const { kind, reason } = yield* failure
        assert.strictEqual(reason, one.reason.replaceAll("URL", url))
        assert.strictEqual(kind, one.kind)
        assert.strictEqual(app.requests.length, one.requests)
        assert.strictEqual((yield* scrape).value(`sprayproxy_github_api_errors_total{kind="${kind}"}`), 1)
        yield* TestClock.adjust("1 hour")
        assert.lengthOf((yield* pages).flat(), 1)
      }))
  )

  it.effect("in the middle of the log ends the look, and is no end of the log", () =>
    Effect.gen(function*() {
      const { app, github } = yield* openStandIn()
      app.longestPage = 1
      for (let at = 1; at <= 3; at++) app.record(newDelivery("push"), answered(503), { at: at * 1_000 })
      const seen: Array<number> = []
      const error = yield* github.attempts("all").pipe(
        Stream.tap((page) =>
          Effect.sync(() => {
            seen.push(...page.map(({ deliveredAt }) => deliveredAt))
            app.trouble(Troubles.serverError(503), { times: 3 })
          })
        ),
        Stream.runDrain,
        Effect.flip
      )
      assert.strictEqual(error.kind, "failed")
      assert.deepStrictEqual(seen, [3_000])
    }))

  it.effect("that is a limit holds for all requests until it is over, and none of them is made", () =>
    withFreshMetrics(Effect.gen(function*() {
      const { app, failure, github, pages } = yield* openStandIn()
      app.trouble(Troubles.secondaryLimit(429, 90))
      yield* failure
      yield* TestClock.adjust("30 seconds")
      assert.include((yield* failure).reason, "for another 60 s")
      assert.strictEqual((yield* Effect.flip(github.redeliver("1"))).kind, "limited")
      assert.strictEqual((yield* Effect.flip(github.hookIdOf("1"))).kind, "limited")
      assert.strictEqual(app.requests.length, 1)
      assert.strictEqual((yield* scrape).value("sprayproxy_github_api_errors_total{kind=\"limited\"}"), 1)
      yield* TestClock.adjust("60 seconds")
      yield* pages
    })))

  it.effect("is said without the token, even if somebody sends it back", () =>
    Effect.gen(function*() {
      let token = ""
      const { failure, github } = yield* openScripted((response, request) => {
        token = request.headers.authorization?.replace(/^bearer /i, "") ?? ""
        response.writeHead(422, { "Content-Type": "application/json" }).end(
          JSON.stringify({ message: `no ${token}\n!` })
        )
      })
      const { reason } = yield* failure
      assert.match(reason, /^GitHub refuses \(422: no \[token\] !\)/)
      assert.deepStrictEqual(yield* github.redeliver("1"), { refused: "no [token] !" })
      assert.match(token, /^eyJ\w+\.eyJ\w+\.[\w-]+$/)
    }))

  it.effect("is told where nobody listens", () =>
    Effect.gen(function*() {
      const url = `http://127.0.0.1:${yield* closedPort}`
      const { failure } = yield* openLog({ app: new App(), url })
      const { kind, reason } = yield* failure
      assert.strictEqual(kind, "unreachable")
      assert.match(
        reason,
        /can't be reached \(connect ECONNREFUSED 127\.0\.0\.1:\d+\): it is that of --github-api-url$/
      )
    }))
})

describe("GitHub's limit", () => {
  it.effect("is a metric as GitHub said it last, and is none where there is no limit", () =>
    withFreshMetrics(Effect.gen(function*() {
      const name = "sprayproxy_github_rate_limit_remaining"
      const { app, pages } = yield* openStandIn()
      app.limit = undefined
      yield* pages
      assert.isFalse((yield* scrape).samples.has(name))
      app.limit = 5_000
      yield* pages
      yield* pages
      assert.strictEqual((yield* scrape).value(name), 4_998)
    })))
})
