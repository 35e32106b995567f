import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { TestClock } from "effect/testing"
import { PublicServer } from "../../src/http/PublicServer.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import * as UnexpectedFailures from "../../src/observability/UnexpectedFailures.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { RefusalLog } from "../../src/observability/logs/RefusalLog.ts"
import { contained } from "../../src/runtime/Contained.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import { send } from "../support/GitHub.ts"

const Services = UnexpectedFailures.layer.pipe(Layer.provideMerge(Log.layerTest))

const unexpected = Effect.map(
  LogEntries,
  ({ entries }) => entries.filter(({ message }) => message === "unexpected failure")
)

const routes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  yield* router.add("GET", "/bug", () => Effect.die(new Error("no such luck")))
  yield* router.add("GET", "/well", () => Effect.succeed(HttpServerResponse.empty()))
}))

const Serving = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(PublicServer.layerHttpServer),
  Layer.provide(PublicServer.layer),
  Layer.provide(RefusalLog.layer),
  Layer.provideMerge(Services),
  Layer.provide([Settings.layerFrom({ host: "127.0.0.1", port: 0 }), Readiness.layer])
)

describe("a defect", () => {
  it.live("in a request is answered with 500, and logged with its id", () =>
    Effect.gen(function*() {
      const { address } = yield* HttpServer.HttpServer
      const port = Number(new URL(HttpServer.formatAddress(address)).port)
      const ask = (path: string) => Effect.promise(() => send(port, { method: "GET", path }))
      const reply = yield* ask("/bug")
      assert.deepInclude(reply, { status: 500, text: "" })
      const [line, ...others] = yield* unexpected
      assert.strictEqual(line?.level, "error")
      assert.strictEqual(line?.fields["request-id"], String(reply.headers["x-request-id"]))
      assert.match(String(line?.fields["error"]), /^Error: no such luck at [^\n]*$/)
      assert.isEmpty(others)

      assert.strictEqual((yield* ask("/well")).status, 204)
      assert.strictEqual((yield* ask("/nowhere")).status, 404)
      assert.lengthOf(yield* unexpected, 1)
    }).pipe(Effect.provide(Serving)))

  it.effect("ends one round of a loop, and is logged; so is a failure, unless it is told elsewhere", () =>
    Effect.gen(function*() {
      let rounds = 0
      const round = Effect.suspend((): Effect.Effect<never, StoreUnavailable | Cause.TimeoutError> => {
        rounds += 1
        if (rounds === 1) return Effect.die(new Error("once"))
        return rounds === 2
          ? Effect.timeout(Effect.never, "0 millis")
          : Effect.fail(new StoreUnavailable({ reason: "often" }))
      })
      yield* Effect.forkScoped(Effect.forever(Effect.delay(contained(round), "1 second")))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(rounds, 5)
      const lines = yield* unexpected
      assert.lengthOf(lines, 2)
      assert.isUndefined(lines[0]!.fields["request-id"])
      assert.match(String(lines[0]!.fields["error"]), /^Error: once /)
      assert.match(String(lines[1]!.fields["error"]), /^TimeoutError/)
    }).pipe(Effect.provide(Services)))

  it.effect("does not keep a loop from being interrupted", () =>
    Effect.gen(function*() {
      const loop = yield* Effect.forkScoped(Effect.forever(contained(Effect.sleep("1 second"))))
      yield* TestClock.adjust("3 seconds")
      loop.interruptUnsafe()
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(loop.pollUnsafe())
    }).pipe(Effect.provide(Services)))
})
