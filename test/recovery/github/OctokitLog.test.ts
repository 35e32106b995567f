import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { eventually } from "../../support/eventually.ts"
import { newDelivery } from "../../support/github/Delivery.ts"
import { answered, notConnected } from "../../support/github/Hook.ts"
import * as Troubles from "../../support/github/Troubles.ts"
import { json, openScripted, openStandIn } from "./OpenLog.ts"

describe("GitHub's log", () => {
  it.effect("is read in pages, newest first, and no page is fetched that nobody takes", () =>
    Effect.gen(function*() {
      const { app, github, pages } = yield* openStandIn()
      app.longestPage = 2
      for (let at = 1; at <= 5; at++) app.record(newDelivery("push"), answered(503), { at: at * 1_000 })
      const all = yield* pages
      assert.deepStrictEqual(all.map((page) => page.map(({ deliveredAt }) => deliveredAt)), [
        [5_000, 4_000],
        [3_000, 2_000],
        [1_000]
      ])
      assert.strictEqual(app.count("page"), 3)
      yield* Stream.runCollect(Stream.take(github.attempts("all"), 1))
      assert.strictEqual(app.count("page"), 4)
      assert.include(app.requests[0]?.target, "per_page=100")
    }))

  it.effect("shows an attempt with all that GitHub says of it", () =>
    Effect.gen(function*() {
      const { app, pages } = yield* openStandIn()
      app.throttledFor = 30_000
      const payload = { action: "completed", installation: { id: 2 ** 52 }, repository: { id: 17 } }
      const { delivery, id } = app.record(newDelivery("check_run", { payload }), notConnected, { at: 90_000 })
      const [[attempt] = []] = yield* pages
      assert.deepStrictEqual(attempt, {
        id,
        guid: delivery.guid,
        deliveredAt: 90_000,
        redelivery: false,
        statusCode: 0,
        event: "check_run",
        action: "completed",
        installationId: String(2 ** 52),
        repositoryId: "17",
        throttledAt: 60_000
      })
    }))

  it.effect("can be asked for failures alone", () =>
    Effect.gen(function*() {
      const { app, github } = yield* openStandIn()
      app.record(newDelivery("push"), answered(202))
      app.record(newDelivery("push"), notConnected)
      const { id } = app.record(newDelivery("push"), answered(502))
      const pages = yield* Stream.runCollect(github.attempts("failures"))
      assert.deepStrictEqual(pages.flat().map((attempt) => attempt.id), [id])
    }))

  it.effect("keeps ids beyond 2^53 whole, from the list to the request for redelivery", () =>
    Effect.gen(function*() {
      const { app, github, pages } = yield* openStandIn()
      const attempts = ["push", "push", "push"].map((event) => app.record(newDelivery(event), answered(503)))
      assert.isFalse(attempts.some(({ id }) => Number.isSafeInteger(Number(id))))
      const [page = []] = yield* pages
      assert.sameMembers(page.map(({ id }) => id), attempts.map(({ id }) => id))
      const [first] = attempts
      assert.strictEqual(yield* github.redeliver(first!.id), "accepted")
      assert.deepStrictEqual(app.askedFor, [first!.delivery.guid])
      assert.include(app.requests.at(-1)?.target, `/${first!.id}/attempts`)
    }))

  it.effect("names the hook id of an attempt that GitHub still has", () =>
    Effect.gen(function*() {
      const { app, github } = yield* openStandIn()
      const { id } = app.record(newDelivery("push"), answered(503))
      assert.strictEqual(yield* github.hookIdOf(id), app.identity.hookId)
      assert.isUndefined(yield* github.hookIdOf("1"))
    }))

  it.effect("has a hook id whatever the case of the header's name, or none", () =>
    Effect.gen(function*() {
      const { github } = yield* openScripted((response, _, count) =>
        json(response, { request: { headers: count === 1 ? { "x-GITHUB-hook-id": "42" } : null } })
      )
      assert.strictEqual(yield* github.hookIdOf("1"), "42")
      assert.isUndefined(yield* github.hookIdOf("1"))
    }))

  it.effect("keeps requests for redelivery apart", () =>
    Effect.gen(function*() {
      const { app, github, pages } = yield* openStandIn({ pace: 3_600_000 })
      const { id } = app.record(newDelivery("push"), answered(503))
      yield* Effect.forkScoped(
        Effect.all([1, 2, 3].map(() => github.redeliver(id)), { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* Effect.promise(() => eventually(() => app.count("redelivery") > 0, "the first request"))
      // Whoever does not wait is there before the answer to what was asked later.
      for (let page = 0; page < 3; page += 1) yield* pages
      assert.strictEqual(app.count("redelivery"), 1)
    }))

  it.effect("makes each request for redelivery when its turn has come", () =>
    Effect.gen(function*() {
      const { app, github } = yield* openStandIn({ pace: 5 })
      const { id } = app.record(newDelivery("push"), answered(503))
      const asked = yield* Effect.all([1, 2, 3].map(() => github.redeliver(id)), { concurrency: "unbounded" })
      assert.deepStrictEqual(asked, ["accepted", "accepted", "accepted"])
      assert.strictEqual(app.count("redelivery"), 3)
    }))

  it.effect.each([400, 404, 422] as const)(
    "tells that GitHub refuses a redelivery with %i, in its words",
    (status) =>
      Effect.gen(function*() {
        const { app, github } = yield* openStandIn()
        app.trouble(Troubles.refusal(status, "Not\n today"))
        assert.deepStrictEqual(yield* github.redeliver("1"), { refused: "Not today" })
        assert.strictEqual(app.count("redelivery"), 1)
      })
  )

  it.effect("never makes a request for redelivery twice, and makes failed reads again", () =>
    Effect.gen(function*() {
      const { app, github, pages } = yield* openStandIn()
      app.trouble(Troubles.serverError(502), { times: 2 })
      assert.lengthOf(yield* pages, 1)
      assert.strictEqual(app.count("page"), 3)
      app.trouble(Troubles.serverError(502), { kind: "redelivery" })
      const error = yield* Effect.flip(github.redeliver("1"))
      assert.strictEqual(error.kind, "failed")
      app.trouble(Troubles.hangUp, { kind: "redelivery" })
      assert.strictEqual((yield* Effect.flip(github.redeliver("1"))).kind, "unreachable")
      assert.strictEqual(app.count("redelivery"), 2)
    }))
})
