import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Http from "node:http"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import { HealthRoutes } from "../../src/webhook/HealthRoutes.ts"
import { WebhookVerifier } from "../../src/webhook/Verifier.ts"
import { send } from "../support/GitHub.ts"

/** Whether there is a secret, for the test to say. */
class Secret
  extends Context.Service<Secret, { exists: boolean }>()("sprayproxy/test/webhook/HealthRoutes.test/Secret")
{}

/** Whether the backends are known, for the test to say. */
class Backends
  extends Context.Service<Backends, { areKnown: boolean }>()("sprayproxy/test/webhook/HealthRoutes.test/Backends")
{}

const TestLayer = HttpRouter.serve(HealthRoutes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provide(Layer.effect(
    WebhookVerifier,
    Effect.map(Secret, (secret) => ({ begin: () => "no secret" as const, isReady: () => secret.exists }))
  )),
  Layer.provide(
    Layer.unwrap(Effect.map(Backends, (backends) =>
      Layer.mock(BackendRegistry)({
        isKnown: () => backends.areKnown,
        snapshot: () => [],
        isFiltered: () => false,
        filterOf: () => undefined,
        recordOutcome: () => {}
      })))
  ),
  Layer.provideMerge(Layer.mergeAll(
    Readiness.layer,
    Layer.sync(Secret, () => ({ exists: true })),
    Layer.sync(Backends, () => ({ areKnown: true }))
  ))
)

const probe = Effect.fnUntraced(function*(path: string, method = "GET") {
  const { address } = yield* HttpServer.HttpServer
  const port = Number(new URL(HttpServer.formatAddress(address)).port)
  const { headers, status, text } = yield* Effect.promise(() => send(port, { method, path }))
  return { status, text, type: headers["content-type"] }
})

const type = "text/plain; charset=utf-8"

// One process, from its start to its end.
layer(TestLayer, { excludeTestServices: true })("HealthRoutes", (it) => {
  it.effect("a process that runs is healthy, and ready when it has a secret", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* probe("/healthz"), { status: 200, text: "healthy", type })
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 200, text: "ready", type })
      assert.deepStrictEqual(yield* probe("/healthz", "HEAD"), { status: 200, text: "", type })
      assert.deepStrictEqual(yield* probe("/readyz", "HEAD"), { status: 200, text: "", type })
    }))

  it.effect("without a secret it is healthy and not ready, until there is one", () =>
    Effect.gen(function*() {
      const secret = yield* Secret
      secret.exists = false
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 503, text: "no secret", type })
      assert.strictEqual((yield* probe("/readyz", "HEAD")).status, 503)
      assert.deepStrictEqual(yield* probe("/healthz"), { status: 200, text: "healthy", type })
      secret.exists = true
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 200, text: "ready", type })
    }))

  it.effect("while it does not know the backends it is healthy and not ready, until it does", () =>
    Effect.gen(function*() {
      const backends = yield* Backends
      backends.areKnown = false
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 503, text: "backends unknown", type })
      assert.deepStrictEqual(yield* probe("/healthz"), { status: 200, text: "healthy", type })
      backends.areKnown = true
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 200, text: "ready", type })
    }))

  it.effect("probes only read", () =>
    Effect.gen(function*() {
      for (const path of ["/healthz", "/readyz"]) assert.strictEqual((yield* probe(path, "POST")).status, 405)
    }))

  it.effect("a draining process is healthy and not ready, and says so first", () =>
    Effect.gen(function*() {
      const { beginDraining } = yield* Readiness
      const secret = yield* Secret
      beginDraining()
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 503, text: "draining", type })
      assert.deepStrictEqual(yield* probe("/healthz"), { status: 200, text: "healthy", type })
      secret.exists = false
      assert.deepStrictEqual(yield* probe("/readyz"), { status: 503, text: "draining", type })
    }))
})
