import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as HttpRouter from "effect/http/HttpRouter"
import * as http from "node:http"
import document from "../../docs/openapi.json" with { type: "json" }
import { addNotFound, routerConfig } from "../../src/http/MethodRoutes.ts"
import { DocumentRoute } from "../../src/operator/DocumentRoute.ts"
import { Settings } from "../../src/settings/Settings.ts"
import * as StoreLocation from "../../src/settings/StoreLocation.ts"
import { send } from "../support/GitHub.ts"
import { OperatorServer, port } from "../support/OperatorServer.ts"
import { RecoveryServer } from "../support/RecoveryServer.ts"

const Served = (settings: Partial<Settings["Service"]>) =>
  HttpRouter.serve(Layer.mergeAll(DocumentRoute, HttpRouter.use(addNotFound)), {
    disableLogger: true,
    disableListenLog: true,
    routerConfig
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => http.createServer(), { port: 0, host: "127.0.0.1" })),
    Layer.provide(Settings.layerFrom(settings))
  )

const store = Option.some(Result.getOrThrow(StoreLocation.parse("sqlite:/var/lib/sprayproxy/deliveries.db")))

const ask = Effect.fnUntraced(function*(method: string, path: string, headers: Readonly<Record<string, string>> = {}) {
  const to = yield* port
  return yield* Effect.promise(() => send(to, { method, path, headers }))
})

describe("GET /openapi.json", () => {
  it.effect.each([{ store }, { enableDynamicBackends: true }])(
    "is there where any of what it describes is",
    (settings) =>
      Effect.gen(function*() {
        const reply = yield* ask("GET", "/openapi.json")
        assert.deepStrictEqual([reply.status, reply.headers["content-type"]], [200, "application/json"])
        assert.deepStrictEqual(JSON.parse(reply.text), document)
      }).pipe(Effect.provide(Served(settings)))
  )

  it.effect("is not there without", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* ask("GET", "/openapi.json")).status, 404)
    }).pipe(Effect.provide(Served({}))))

  it.effect("is kept from pages, other methods and other spellings", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* ask("GET", "/openapi.json", { origin: "https://evil.example.org" })).status, 403)
      assert.strictEqual((yield* ask("POST", "/openapi.json")).status, 405)
      for (const path of ["/openapi.json/", "/OpenApi.json", "/%6fpenapi.json", "//openapi.json", "/openapi%2ejson"]) {
        assert.strictEqual((yield* ask("GET", path)).status, 404, path)
      }
    }).pipe(Effect.provide(Served({ store }))))
})

describe("the document", () => {
  it.effect.each(
    [
      ["/deliveries", OperatorServer()],
      ["/recovery", RecoveryServer]
    ] as const
  )("has each path of %s that is served, with all of its methods", ([prefix, Server]) =>
    Effect.gen(function*() {
      const paths = Object.entries(document.paths).filter(([path]) => path.startsWith(prefix))
      assert.isNotEmpty(paths)
      for (const [path, methods] of paths) {
        const reply = yield* ask("PATCH", path.replace("{guid}", "guid-1"))
        const described = Object.keys(methods).map((method) => method.toUpperCase())
        assert.strictEqual(reply.status, 405, path)
        assert.sameMembers(reply.headers["allow"]!.split(", "), described, path)
      }
    }).pipe(Effect.provide(Server as typeof RecoveryServer)))
})
