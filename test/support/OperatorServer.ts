/** `/deliveries` on a real listener, above a store whose content and answers the test decides. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { createHmac } from "node:crypto"
import * as http from "node:http"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { parse } from "../../src/domain/Backend.ts"
import { routerConfig } from "../../src/http/MethodRoutes.ts"
import { addNotFound } from "../../src/http/MethodRoutes.ts"
import * as UnexpectedFailures from "../../src/observability/UnexpectedFailures.ts"
import { Log } from "../../src/observability/logs/Logging.ts"
import { DeliveryRoutes } from "../../src/operator/Routes.ts"
import { MemoryBudget } from "../../src/runtime/MemoryBudget.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import type { RowView } from "../../src/store/contract/Operator.ts"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import { WebhookSecrets } from "../../src/webhook/Secrets.ts"
import { WebhookVerifier } from "../../src/webhook/Verifier.ts"
import { secret } from "./GitHub.ts"

type Store = DeliveryStore["Service"]
type Kept = Effect.Success<ReturnType<Store["show"]>>[number] & {
  readonly headers: ReadonlyArray<string>
  readonly body: Buffer
}

/** The content of the store, in the order in which it is listed, and the questions that the store was asked. */
export class StoreContents extends Context.Service<StoreContents, {
  readonly kept: Array<Kept>
  readonly lists: Array<Parameters<Store["list"]>>
  readonly redeliveries: Array<Parameters<Store["redeliver"]>>
  /** How many rows match the filters of redeliveries. Each redelivery takes its limit from it. */
  matching: number
  /** False: there are too many to count. */
  isCounted: boolean
  failure: StoreUnavailable | undefined
  /** How many deliveries can be loaded before the store is away. */
  loadsBeforeFailure: number
}>()("sprayproxy/test/support/OperatorServer/StoreContents") {}

const TestStore = Layer.unwrap(Effect.map(
  StoreContents,
  (contents) => {
    const answering = <A>(answer: () => A) =>
      Effect.suspend(() => contents.failure === undefined ? Effect.succeed(answer()) : Effect.fail(contents.failure))
    return Layer.mock(DeliveryStore)({
      list: (filter, page) =>
        answering(() => {
          contents.lists.push([filter, page])
          const after = contents.kept.findIndex(({ id }) => id === page.after) + 1
          const deliveries = contents.kept.slice(after, after + page.limit)
          return { deliveries, next: after + page.limit < contents.kept.length ? deliveries.at(-1)!.id : undefined }
        }),
      show: (guid) => answering(() => contents.kept.filter((kept) => kept.guid === guid || kept.id === guid)),
      load: (id) =>
        Effect.andThen(
          Effect.suspend(() =>
            (contents.loadsBeforeFailure -= 1) < 0 ? Effect.fail(new StoreUnavailable({ reason: "gone" })) : Effect.void
          ),
          answering(() => {
            const kept = contents.kept.find((one) => one.id === id)
            return kept?.hasBody === true ? { ...kept, method: "POST", target: "/proxy?token=abc" } : undefined
          })
        ),
      redeliver: (filter, limit, after) =>
        answering(() => {
          contents.redeliveries.push(after === undefined ? [filter, limit] : [filter, limit, after])
          const redelivered = Math.min(limit, contents.matching)
          contents.matching -= redelivered
          const next = contents.matching === 0 ? undefined : { id: lastId, key: "https://z.example.com" }
          const remaining = after === undefined && contents.isCounted ? contents.matching : undefined
          return { redelivered, remaining, next }
        })
    })
  }
))

/** The id of the row that comes last in every lot. */
export const lastId = "0192d3c4-0000-7000-8000-0000000000ff"

export const received = Date.UTC(2026, 0, 2, 3, 4, 5, 678)

export const row = (url: string, over: Partial<RowView> = {}): RowView => ({
  key: url,
  url,
  state: "delivered",
  since: received,
  tries: 1,
  dueAt: undefined,
  underWay: false,
  lastOutcome: "delivered",
  settledAt: received + 1_000,
  ...over
})

/** A delivery that GitHub has signed with `key`. */
export const keep = (n: number, over: Partial<Kept> = {}, key = secret): Kept => {
  const body = over.body ?? Buffer.from(`{"n":${n}}`)
  const digest = createHmac("sha256", key).update(body).digest("hex")
  return {
    id: `0198a2b4-0000-7000-8000-${String(n).padStart(12, "0")}`,
    requestId: "req",
    hookId: "292430182",
    guid: `guid-${n}`,
    event: "push",
    receivedAt: received + n,
    bodyLength: body.length,
    hasBody: true,
    rows: [row("https://a.example.com")],
    attempts: [],
    headers: ["Content-Type", "application/json", "X-Hub-Signature-256", `sha256=${digest}`],
    body,
    ...over
  }
}

export const registeredKeys: ReadonlyArray<string> = ["https://a.example.com", "https://b.example.com"]

const registered = registeredKeys.map((url) => Result.getOrThrow(parse(url, "static")))

/** The server above a given store. */
export const OperatorServerAbove = <A>(
  store: Layer.Layer<A | DeliveryStore>,
  settings: Partial<Settings["Service"]> = {}
) =>
  HttpRouter.serve(Layer.mergeAll(DeliveryRoutes, HttpRouter.use(addNotFound)), {
    disableLogger: true,
    disableListenLog: true,
    routerConfig
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => http.createServer(), { port: 0, host: "127.0.0.1" })),
    Layer.provideMerge(Layer.merge(store, MemoryBudget.layer)),
    Layer.provide(
      Layer.mock(BackendRegistry)({
        snapshot: () => registered,
        isKnown: () => true,
        isFiltered: () => false,
        filterOf: () => undefined,
        recordOutcome: () => {}
      })
    ),
    Layer.provide(WebhookVerifier.layerNoDeps),
    Layer.provide(WebhookSecrets.layer.pipe(Layer.provide(NodeFileSystem.layer))),
    Layer.provide(Timers.layerClock),
    Layer.provideMerge(UnexpectedFailures.layer),
    Layer.provideMerge(Log.layerTest),
    Layer.provide(Settings.layerFrom({ webhookSecret: Option.some(Redacted.make(secret)), ...settings }))
  )

export const OperatorServer = (settings: Partial<Settings["Service"]> = {}) =>
  Layer.unwrap(Effect.sync(() => {
    const contents = {
      kept: [],
      lists: [],
      redeliveries: [],
      matching: 0,
      isCounted: true,
      failure: undefined,
      loadsBeforeFailure: Infinity
    }
    const Contents = Layer.succeed(StoreContents, contents)
    return Layer.merge(OperatorServerAbove(Layer.provide(TestStore, Contents), settings), Contents)
  }))

export const port = Effect.map(
  HttpServer.HttpServer,
  ({ address }) => Number(new URL(HttpServer.formatAddress(address)).port)
)
