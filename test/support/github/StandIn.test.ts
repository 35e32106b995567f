import { assert, describe, it } from "@effect/vitest"
import { createAppAuth } from "@octokit/auth-app"
import { Octokit } from "@octokit/core"
import * as Effect from "effect/Effect"
import { createSign } from "node:crypto"
import { startBackend } from "../Backend.ts"
import type { App } from "./App.ts"
import { newDelivery } from "./Delivery.ts"
import { answered, notConnected, timedOut } from "./Hook.ts"
import { Published } from "./Published.ts"
import { type StandIn, type StandInOptions, startGitHub } from "./StandIn.ts"
import * as Troubles from "./Troubles.ts"

const deliveries = "/app/hook/deliveries"

/** A token as the App's own key signs it, unless its claims are other ones. */
const tokenOf = (app: App, claims: Readonly<Record<string, unknown>> = {}, alg = "RS256"): string => {
  const now = Math.floor(app.now() / 1_000)
  const parts = [{ alg, typ: "JWT" }, { iss: app.identity.appId, iat: now - 60, exp: now + 540, ...claims }]
  const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".")
  return `${signed}.${createSign("RSA-SHA256").update(signed).sign(app.privateKey()).toString("base64url")}`
}

interface Seen {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly body: any
}

const ask = async ({ app, url }: StandIn, path: string, method = "GET", token = tokenOf(app)): Promise<Seen> => {
  const response = await fetch(url + path, { method, headers: { authorization: `Bearer ${token}` } })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, body: text === "" ? undefined : JSON.parse(text) }
}

const octokitOf = ({ app, url }: StandIn, privateKey = app.privateKey()) =>
  new Octokit({
    authStrategy: createAppAuth,
    auth: { appId: app.identity.appId, privateKey },
    baseUrl: url,
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
  })

/** GitHub, with a webhook that answers with this status. */
const startWithHook = Effect.fnUntraced(function*(options: StandInOptions = {}) {
  const github = yield* startGitHub(options)
  const hook = { status: 202 }
  const backend = yield* startBackend((_request, response) => void response.writeHead(hook.status).end("thanks"))
  github.app.hookUrl = `${backend.url}/proxy`
  return { github, app: github.app, backend, hook }
})

describe("the stand-in for GitHub", () => {
  it.live("answers as GitHub's published schemas say, on github.com and on a GitHub Enterprise Server", () =>
    Effect.gen(function*() {
      const { app, github, hook } = yield* startWithHook()
      yield* Effect.promise(async () => {
        const first = await app.deliver(newDelivery("push"))
        hook.status = 503
        await app.deliver(newDelivery("check_run", { action: "completed" }))
        app.throttledFor = 30_000
        const unanswered = app.record(newDelivery("issue_comment"), notConnected)
        const item = `${deliveries}/{delivery_id}`
        app.trouble(Troubles.primaryLimit(app.now()), { kind: "app" })
        app.trouble(Troubles.secondaryLimit(429, 1), { kind: "config" })
        app.trouble(Troubles.refusal(422, "Not today"), { kind: "redelivery" })
        const asked: ReadonlyArray<readonly [method: string, path: string, template: string, status: number]> = [
          ["GET", "/app", "/app", 403],
          ["GET", "/app", "/app", 200],
          ["GET", "/app/hook/config", "/app/hook/config", 429],
          ["GET", "/app/hook/config", "/app/hook/config", 200],
          ["GET", deliveries, deliveries, 200],
          ["GET", `${deliveries}?status=failure`, deliveries, 200],
          ["GET", `${deliveries}?status=lost`, deliveries, 422],
          ["GET", `${deliveries}?cursor=none`, deliveries, 400],
          ["GET", `${deliveries}/${first.id}`, item, 200],
          ["GET", `${deliveries}/${unanswered.id}`, item, 200],
          ["GET", `${deliveries}/1`, item, 404],
          ["POST", `${deliveries}/${first.id}/attempts`, `${item}/attempts`, 422],
          ["POST", `${deliveries}/${first.id}/attempts`, `${item}/attempts`, 202],
          ["POST", `${deliveries}/1/attempts`, `${item}/attempts`, 404]
        ]
        const published = [new Published("api.github.com"), new Published("ghes-3.19")]
        for (const [method, path, template, status] of asked) {
          // oxlint-disable-next-line no-await-in-loop -- one after the other, as they are counted
          const seen = await ask(github, path, method)
          assert.strictEqual(seen.status, status, path)
          for (const schemas of published) {
            assert.deepStrictEqual(schemas.faults(method, template, status, seen.body), [])
          }
        }
        const { body } = await ask(github, deliveries)
        assert.match(JSON.stringify(published[0]!.faults("GET", deliveries, 200, [{ ...body[0], late: 1 }])), /late/)
        const { guid, ...lacking } = body[0]
        assert.match(JSON.stringify(published[0]!.faults("GET", deliveries, 200, [lacking])), /guid/, guid)
        await app.quiet()
      })
    }))

  it.live("has ids that a number can't hold, which Octokit reads and sends exactly", () =>
    Effect.gen(function*() {
      const { app, github } = yield* startWithHook()
      const [older, newer] = ["push", "issue_comment"].map((event) => app.record(newDelivery(event), notConnected))
      assert.strictEqual(Number(older!.id), Number(newer!.id))
      const octokit = octokitOf(github)
      yield* Effect.promise(async () => {
        const { data } = await octokit.request("GET /app/hook/deliveries")
        assert.deepStrictEqual(data.map(({ id }) => String(id)), [newer!.id, older!.id])
        await octokit.request("POST /app/hook/deliveries/{delivery_id}/attempts", {
          delivery_id: data[1]!.id as number
        })
        assert.deepStrictEqual(app.askedFor, [older!.delivery.guid])
        await app.quiet()
      })
    }))

  it.live("sends again under the same GUID, with the same headers and bytes, and logs each attempt", () =>
    Effect.gen(function*() {
      const { app, backend, github, hook } = yield* startWithHook()
      hook.status = 503
      yield* Effect.promise(async () => {
        const delivery = newDelivery("pull_request", { action: "opened" })
        const { id } = await app.deliver(delivery)
        hook.status = 202
        assert.strictEqual((await ask(github, `${deliveries}/${id}/attempts`, "POST")).status, 202)
        await app.quiet()
        await app.redeliver(delivery.guid)
        const [first, ...again] = backend.received
        assert.lengthOf(again, 2)
        for (const one of again) {
          assert.deepStrictEqual(one.rawHeaders, first!.rawHeaders)
          assert.deepStrictEqual(one.body, delivery.body)
        }
        assert.deepInclude(first!.headers, {
          "x-github-delivery": delivery.guid,
          "x-github-hook-id": app.identity.hookId,
          "x-github-hook-installation-target-id": app.identity.appId,
          "x-github-hook-installation-target-type": "integration"
        })
        const { body } = await ask(github, deliveries)
        assert.deepStrictEqual(
          body.map(({ guid, redelivery, status, status_code }: any) => [guid, redelivery, status, status_code]),
          [[delivery.guid, true, "OK", 202], [delivery.guid, true, "OK", 202], [
            delivery.guid,
            false,
            "Invalid HTTP Response: 503",
            503
          ]]
        )
        const detail = (await ask(github, `${deliveries}/${id}`)).body
        assert.deepStrictEqual(detail.request, { headers: delivery.headers, payload: delivery.payload })
        assert.strictEqual(detail.response.payload, "thanks")
      })
    }))

  it.live("pages through the log by Link, newest first, and filters by status", () =>
    Effect.gen(function*() {
      const { app, github } = yield* startWithHook()
      const now = app.now()
      const endings = [answered(202), notConnected, answered(400), timedOut(10_000), answered(503)]
      const ids = endings.map((ending, n) => app.record(newDelivery("push"), ending, { at: now - n * 1_000 }).id)
      yield* Effect.promise(async () => {
        const pages = async (path: string) => {
          const seen: Array<Array<string>> = []
          for (let next: string | undefined = path; next !== undefined;) {
            // oxlint-disable-next-line no-await-in-loop -- each page says where the next one is
            const { headers, text } = await ask(github, next)
            seen.push([...text.matchAll(/"id":(\d+)/g)].map(([, id]) => id!).filter((id) => ids.includes(id)))
            next = /<[^>]*?(\/app[^>]*)>; rel="next"/.exec(headers.get("link") ?? "")?.[1]
          }
          return seen
        }
        assert.deepStrictEqual(await pages(`${deliveries}?per_page=2`), [
          ids.slice(0, 2),
          ids.slice(2, 4),
          ids.slice(4)
        ])
        assert.deepStrictEqual(await pages(`${deliveries}?status=failure&per_page=1`), [[ids[2]], [ids[4]]])
        assert.deepStrictEqual(await pages(`${deliveries}?status=success`), [[ids[0]]])
        app.longestPage = 3
        assert.deepStrictEqual(await pages(`${deliveries}?per_page=100`), [ids.slice(0, 3), ids.slice(3)])
      })
    }))

  it.live("logs what became of each attempt, whatever the webhook thinks", () =>
    Effect.gen(function*() {
      const { app, backend } = yield* startWithHook({ timeLimit: 300 })
      const silent = yield* startBackend(() => {})
      const well = app.hookUrl!
      yield* Effect.promise(async () => {
        const refused = newDelivery("push")
        app.hookUrl = silent.url
        assert.deepInclude(await app.deliver(newDelivery("push")), {
          statusCode: 0,
          status: "timed out",
          duration: 0.3
        })
        app.hookUrl = "http://127.0.0.1:1/"
        assert.deepInclude(await app.deliver(refused), { statusCode: 0, status: "failed to connect" })
        app.hookUrl = well
        app.timesOut = ({ guid }) => guid === refused.guid
        assert.deepInclude(await app.redeliver(refused.guid), { statusCode: 0, status: "timed out", redelivery: true })
        assert.lengthOf(backend.received, 1)
      })
    }))

  it.live("accepts requests of which nothing comes", () =>
    Effect.gen(function*() {
      const { app, backend, github } = yield* startWithHook()
      const { delivery, id } = app.record(newDelivery("push"), notConnected)
      app.dropsRedelivery = ({ guid }) => guid === delivery.guid
      yield* Effect.promise(async () => {
        assert.strictEqual((await ask(github, `${deliveries}/${id}/attempts`, "POST")).status, 202)
        await app.quiet()
      })
      assert.lengthOf(backend.received, 0)
      assert.lengthOf(app.log.all, 1)
    }))

  it.live("lists attempts late, in their place, and details later still", () =>
    Effect.gen(function*() {
      let now = Date.UTC(2026, 10, 1)
      const { app, github } = yield* startWithHook({ now: () => now })
      app.listedAfter = 60_000
      const late = app.record(newDelivery("push"), notConnected)
      app.listedAfter = 0
      app.detailedAfter = 5_000
      now += 1_000
      const newer = app.record(newDelivery("push"), notConnected)
      yield* Effect.promise(async () => {
        const listed = async () => (await ask(github, deliveries)).body.map(({ guid }: any) => guid)
        assert.deepStrictEqual(await listed(), [newer.delivery.guid])
        assert.strictEqual((await ask(github, `${deliveries}/${newer.id}`)).status, 404)
        now += 60_000
        assert.deepStrictEqual(await listed(), [newer.delivery.guid, late.delivery.guid])
        assert.strictEqual((await ask(github, `${deliveries}/${newer.id}`)).status, 200)
      })
    }))

  it.live("lets nobody in but the App, by its key and GitHub's clock", () =>
    Effect.gen(function*() {
      const { app, github } = yield* startWithHook()
      yield* Effect.promise(async () => {
        const now = Math.floor(app.now() / 1_000)
        const refusal = async (token: string) => {
          const { body, status } = await ask(github, "/app", "GET", token)
          return `${status} ${body.message}`
        }
        assert.strictEqual((await fetch(`${github.url}/app`)).status, 401)
        assert.match(await refusal("none"), /^401 A JSON web token could not be decoded$/)
        assert.match(await refusal(tokenOf(app, {}, "HS256")), /^401 A JSON web token could not be decoded$/)
        assert.match(await refusal(`${tokenOf(app).slice(0, -8)}AAAAAAAA`), /^401 A JSON web token could not/)
        assert.match(await refusal(tokenOf(app, { iss: "1" })), /^404 Integration not found$/)
        assert.match(await refusal(tokenOf(app, { iss: undefined })), /^401 Missing 'issuer' claim/)
        assert.match(await refusal(tokenOf(app, { exp: now - 1 })), /^401 'Expiration time' claim \('exp'\) must be/)
        assert.match(await refusal(tokenOf(app, { exp: now + 700 })), /^401 .* is too far in the future$/)
        assert.match(await refusal(tokenOf(app, { iat: now + 30 })), /^401 'Issued at' claim \('iat'\) must be/)
        assert.strictEqual((await ask(github, "/app", "GET", tokenOf(app, { iss: app.clientId }))).status, 200)

        const old = app.privateKey()
        const isLetIn = (key: string) =>
          octokitOf(github, key).request("GET /app").then(() => true, ({ status }) => status !== 401)
        app.addKey()
        assert.deepStrictEqual(await Promise.all([isLetIn(old), isLetIn(app.privateKey("pkcs8"))]), [true, true])
        app.deleteOldKeys()
        assert.deepStrictEqual(await Promise.all([isLetIn(old), isLetIn(app.privateKey())]), [false, true])

        for (const hours of [-1, 1]) {
          app.skew = hours * 3_600_000
          // oxlint-disable-next-line no-await-in-loop -- GitHub has one clock at a time
          assert.strictEqual((await octokitOf(github).request("GET /app")).status, 200)
        }
      })
    }))

  it.live("says how much of the limit is left, and no when nothing is", () =>
    Effect.gen(function*() {
      let now = Date.UTC(2026, 10, 1)
      const { app, github } = yield* startWithHook({ now: () => now, base: "/api/v3" })
      app.limit = 2
      const left = async () => {
        const { headers, status } = await ask(github, "/app")
        return [status, headers.get("x-ratelimit-remaining"), headers.get("x-ratelimit-reset")]
      }
      yield* Effect.promise(async () => {
        const reset = String(now / 1_000 + 3_600)
        assert.deepStrictEqual(await left(), [200, "1", reset])
        assert.deepStrictEqual(await left(), [200, "0", reset])
        assert.deepStrictEqual(await left(), [403, "0", reset])
        now += 3_600_000
        assert.deepStrictEqual((await left()).slice(0, 2), [200, "1"])
        app.limit = undefined
        assert.deepStrictEqual(await left(), [200, null, null])
      })
    }))

  it.live("has bad days, and counts requests by kind", () =>
    Effect.gen(function*() {
      const { app, github } = yield* startWithHook()
      yield* Effect.promise(async () => {
        app.trouble(Troubles.secondaryLimit(429, 7), { kind: "page" })
        assert.strictEqual((await ask(github, "/app/hook/config")).status, 200)
        const limited = await ask(github, deliveries)
        assert.deepStrictEqual([limited.status, limited.headers.get("retry-after")], [429, "7"])
        app.trouble(Troubles.serverError(502), { times: 2 })
        assert.strictEqual((await ask(github, deliveries)).status, 502)
        assert.strictEqual((await ask(github, deliveries)).status, 502)
        app.trouble(Troubles.html())
        assert.match(await (await fetch(github.url)).text(), /^<!DOCTYPE html>/)
        app.trouble(Troubles.hangUp)
        assert.isTrue(await ask(github, deliveries).then(() => false, () => true))
        app.trouble(Troubles.silence)
        const patience = AbortSignal.timeout(100)
        assert.isTrue(await fetch(github.url, { signal: patience }).then(() => false, () => patience.aborted))
        app.suspended = true
        assert.strictEqual((await ask(github, "/app")).status, 403)
        app.suspended = false
        app.hookUrl = undefined
        assert.strictEqual((await ask(github, deliveries)).status, 404)
        assert.strictEqual((await ask(github, "/app")).status, 200)
        assert.deepStrictEqual(
          app.requests.map(({ kind, status }) => `${kind} ${status}`),
          [
            "config 200",
            "page 429",
            "page 502",
            "page 502",
            "unknown 200",
            "page 0",
            "unknown 0",
            "app 403",
            "page 404",
            "app 200"
          ]
        )
        assert.strictEqual(app.count("page"), 5)
      })
    }))
})
