import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import * as tls from "node:tls"
import { listen } from "../../support/Backend.ts"
import { eventually } from "../../support/eventually.ts"
import * as Api from "../../support/github/Api.ts"
import { App } from "../../support/github/App.ts"
import { newDelivery } from "../../support/github/Delivery.ts"
import { answered } from "../../support/github/Hook.ts"
import { json, openLog, openScripted, openStandIn, startScripted } from "./OpenLog.ts"

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url))

/** Makes Node trust the tests' authority, as `NODE_EXTRA_CA_CERTS` does, until the scope closes. */
const trustingTests = Effect.acquireRelease(
  Effect.sync(() => {
    const usual = tls.getCACertificates("default")
    tls.setDefaultCACertificates([...usual, fixture("ca.pem").toString()])
    return usual
  }),
  (usual) => Effect.sync(() => tls.setDefaultCACertificates(usual))
)

/** A proxy that leads every tunnel to one port. */
const startTunnels = (port: number) =>
  Effect.suspend(() => {
    const connects: Array<{ readonly target: string; readonly authorization: string | undefined }> = []
    const proxy = Http.createServer().on("connect", (request: Http.IncomingMessage, socket: Net.Socket) => {
      connects.push({ target: request.url!, authorization: request.headers["proxy-authorization"] })
      const onward = Net.connect(port, "127.0.0.1", () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
        socket.pipe(onward).pipe(socket)
      })
      onward.on("error", () => socket.destroy())
      socket.on("error", () => onward.destroy()).on("close", () => onward.destroy())
    })
    return Effect.map(listen(proxy), (proxyPort) => ({ address: `127.0.0.1:${proxyPort}`, connects }))
  })

/** A GitHub Enterprise Server of a name that no resolver knows. */
const startEnterprise = Effect.suspend(() => {
  const app = new App()
  app.hookUrl = "https://hook.example.com"
  app.longestPage = 1
  for (let at = 1; at <= 3; at++) app.record(newDelivery("push"), answered(503), { at: at * 1_000 })
  const tlsOptions = { key: fixture("other-key.pem"), cert: fixture("other.pem") }
  const server = Https.createServer(tlsOptions, (request, response) => {
    // The stand-in names its pages by http.
    const { setHeader } = response
    response.setHeader = (name, value) =>
      setHeader.call(response, name, name === "Link" ? String(value).replace("http:", "https:") : value)
    Api.serve(app, "/api/v3")(request, response)
  })
  return Effect.map(listen(server), (port) => ({ app, port, url: "https://other.example.com/api/v3" }))
})

describe("the connection to GitHub", () => {
  it.live("leads through the proxy that HTTPS_PROXY names, with TLS up to GitHub", () =>
    Effect.gen(function*() {
      yield* trustingTests
      const { app, port, url } = yield* startEnterprise
      const { address, connects } = yield* startTunnels(port)
      const { pages } = yield* openLog({ app, url, env: { HTTPS_PROXY: `http://me:p%40ss@${address}` } })
      assert.lengthOf(yield* pages, 3)
      assert.deepStrictEqual(connects, [{
        target: "other.example.com:443",
        authorization: `Basic ${Buffer.from("me:p@ss").toString("base64")}`
      }])
    }))

  it.live("does not lead through it where NO_PROXY names GitHub, and tells whether it did", () =>
    Effect.gen(function*() {
      const { app, port, url } = yield* startEnterprise
      const { address, connects } = yield* startTunnels(port)
      const env = { HTTPS_PROXY: `http://${address}` }
      const direct = yield* openLog({ app, url, env: { ...env, NO_PROXY: ".example.com" } })
      const { kind, reason } = yield* direct.failure
      assert.strictEqual(kind, "unreachable")
      assert.match(
        reason,
        /^https:\/\/other\.example\.com\/api\/v3 can't be reached \(.+\): it is that of --github-api-url$/
      )
      assert.lengthOf(connects, 0)
      const proxied = yield* openLog({ app, url, env })
      assert.match((yield* proxied.failure).reason, /can't be reached through the proxy \(.*certificate/)
    }))

  it.effect("can't be made with a proxy that is none", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        openLog({ app: new App(), url: "https://other.example.com", env: { HTTPS_PROXY: "ftp://p:secret@x" } })
      )
      assert.match(error.message, /^HTTPS_PROXY can't be used: /)
      assert.notInclude(error.message, "secret")
    }))

  it.effect("is given up after 15 seconds without an answer, or with half of one", () =>
    Effect.gen(function*() {
      const { failure, requests } = yield* openScripted((response, _, count) => {
        if (count === 2) response.writeHead(200, { "Content-Type": "application/json" }).write("[")
      })
      const reading = yield* Effect.forkChild(failure)
      for (let count = 1; count <= 3; count++) {
        yield* Effect.promise(() => eventually(() => requests.length === count, `request ${count}`))
        yield* TestClock.adjust("15 seconds")
      }
      const { kind, reason } = yield* Fiber.join(reading)
      assert.strictEqual(kind, "unreachable")
      assert.match(reason, /can't be reached \(no answer within 15 seconds\): it is that of --github-api-url$/)
    }))

  it.effect("ends with the program, whatever is under way", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { failure, requests } = yield* Scope.provide(openScripted(() => {}), scope)
      const reading = yield* Effect.forkChild(failure)
      yield* Effect.promise(() => eventually(() => requests.length === 1, "the request"))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(reading)
      assert.lengthOf(requests, 1)
    }))

  it.effect("gives no token to a page that is named elsewhere", () =>
    Effect.gen(function*() {
      const elsewhere = yield* startScripted((response) => json(response, []))
      for (
        const link of [
          `${elsewhere.url}/app/hook/deliveries?cursor=2`,
          elsewhere.url.replace("http:", "HTTP:"),
          `//${new URL(elsewhere.url).host}/app/hook/deliveries`
        ]
      ) {
        const { failure, requests } = yield* openScripted((response, _, count) =>
          count > 1 ? response.writeHead(500).end() : json(response, [], { Link: `<${link}>; rel="next"` })
        )
        yield* failure
        assert.isEmpty(elsewhere.requests)
        for (const { url } of requests.slice(1)) assert.match(url ?? "", /^\/+127/)
      }
    }))

  it.effect("follows pages of a GitHub Enterprise Server below /api/v3", () =>
    Effect.gen(function*() {
      const { app, pages, url } = yield* openStandIn({ base: "/api/v3" })
      app.longestPage = 1
      for (let at = 1; at <= 3; at++) app.record(newDelivery("push"), answered(503), { at: at * 1_000 })
      assert.match(url, /\/api\/v3$/)
      assert.lengthOf(yield* pages, 3)
    }))

  it.effect("makes itself known, and the version of the API that it speaks", () =>
    Effect.gen(function*() {
      const { pages, requests } = yield* openScripted((response) => json(response, []))
      yield* pages
      assert.match(requests[0]?.headers["user-agent"] ?? "", /^sprayproxy\/\d/)
      assert.strictEqual(requests[0]?.headers["x-github-api-version"], "2022-11-28")
    }))
})
