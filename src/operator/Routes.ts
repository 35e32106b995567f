/**
 * `/deliveries`: shows what the store keeps, and redelivers it.
 *
 * **Details**
 *
 * The proxy in front of us guards these paths as it guards `/backends`, because they name backends and, when asked,
 * show payloads. In direct mode they do not exist.
 *
 * Large answers go out as they are made. Encoding them would check again what their types have checked, on a thread that
 * deliveries need.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { BackendRegistry } from "../backends/Registry.ts"
import * as ApiRoutes from "../http/ApiRoutes.ts"
import { Log } from "../observability/logs/Logging.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import { RecoveryStore } from "../store/RecoveryStore.ts"
import type { RedeliverAnswer, RedeliverMatchingAnswer, ShowAnswer } from "./Answers.ts"
import { DeliveriesApi } from "./Api.ts"
import * as Defaults from "./Defaults.ts"
import {
  cannotBeDone,
  invalidQuery,
  json,
  Middleware,
  parametersIn,
  readBody,
  readOptionalBody,
  storeUnavailable
} from "./Handling.ts"
import * as Parameters from "./Parameters.ts"
import { NotKept, Unavailable } from "./Refusals.ts"
import * as Showing from "./Showing.ts"
import { listAnswer } from "./Views.ts"

const Handlers = HttpApiBuilder.group(
  DeliveriesApi,
  "deliveries",
  Effect.fnUntraced(function*(handlers) {
    const store = yield* DeliveryStore
    const recoveries = yield* Effect.serviceOption(RecoveryStore)
    const registry = yield* BackendRegistry
    const log = yield* Log
    const unavailable = storeUnavailable(log)
    const showing = yield* Showing.make

    /** Says what recovery knows of a delivery that is not here, if it is on and knows it. */
    const missingText = Effect.fnUntraced(function*(guid: string) {
      if (Option.isNone(recoveries)) return ""
      const [recalled] = yield* recoveries.value.recall([guid], undefined)
      if (recalled?.recovery === undefined) return ""
      const { asks, state } = recalled.recovery
      return `; it failed at GitHub, and is ${state === "asked" ? "asked for" : state} (requests: ${asks})`
    })

    const viewsOf = Effect.fnUntraced(function*(guid: string) {
      const views = Parameters.isText(guid) ? yield* store.show(guid) : []
      if (views.length > 0) return views
      const missing = Parameters.isText(guid) ? yield* missingText(guid) : ""
      return yield* new NotKept({ reason: `no delivery with this GUID or id is kept${missing}` })
    })

    /** Only registered backends: a row of another backend would wait for nobody. */
    const addressees = Effect.fnUntraced(function*(backend: string | undefined) {
      const keys = registry.snapshot().map(({ key }) => key)
      const among = backend === undefined ? keys : keys.filter((key) => key === backend)
      if (among.length > 0) return among
      return yield* cannotBeDone(
        backend === undefined ? "no backend is registered" : `backend ${JSON.stringify(backend)} is not registered`
      )
    })

    return handlers
      .handle(
        "list",
        Effect.fnUntraced(
          function*({ query: { backend, cursor, event, guid, limit, since, state } }) {
            const after = yield* rowAt(cursor, invalidQuery)
            const page = yield* store.list(
              { state, backend, event, guid, ...since },
              { limit: limit ?? Defaults.usualLimit, after: after?.id }
            )
            return json(listAnswer(page))
          },
          Effect.catchTag("StoreUnavailable", unavailable)
        )
      )
      .handle(
        "show",
        Effect.fnUntraced(
          function*({ params: { guid }, query: { body }, request }) {
            const views = yield* viewsOf(guid)
            if (body === true) {
              const bytes = showing.withPayloads(request, views)
              return HttpServerResponse.stream(bytes, { contentType: "application/json" })
            }
            const deliveries = yield* Effect.timeout(Effect.forEach(views, showing.withoutPayload), "10 seconds")
            return json<typeof ShowAnswer.Type>({ deliveries })
          },
          Effect.interruptible,
          Effect.catchTags({
            TimeoutError: () => Effect.fail(new Unavailable({ reason: "overloaded" })),
            StoreUnavailable: unavailable
          })
        )
      )
      .handleRaw(
        "redeliver",
        Effect.fnUntraced(
          function*({ params: { guid }, request }) {
            const { backend } = yield* redeliverParameters(yield* readOptionalBody(request))
            const views = yield* viewsOf(guid)
            const among = yield* addressees(backend)
            const addressed = views.filter(({ rows }) => rows.some(({ key }) => among.includes(key)))
            if (addressed.length === 0) {
              const whom = backend === undefined ? "any backend that is registered" : JSON.stringify(backend)
              return yield* cannotBeDone(`the delivery has not gone to ${whom}`)
            }
            if (!addressed.some(({ hasBody }) => hasBody)) {
              return yield* cannotBeDone("the delivery's body is no longer kept")
            }
            const which = views.some((view) => view.guid === guid) ? { guid } : { id: guid }
            const { redelivered, remaining } = yield* store.redeliver({ ...which, among }, Defaults.highestLimit)
            log.write("info", "redelivery asked for", { delivery: guid, backend, redelivered, remaining })
            return json<typeof RedeliverAnswer.Type>({ redelivered, ...counted(remaining) })
          },
          Effect.catchTag("StoreUnavailable", unavailable)
        )
      )
      .handleRaw(
        "redeliverMatching",
        Effect.fnUntraced(
          function*({ request }) {
            const { backend, cursor, event, limit, since, state = Defaults.redeliveredState } =
              yield* redeliverMatchingParameters(
                yield* readBody(request)
              )
            const after = yield* rowAt(cursor, cannotBeDone)
            // Pending rows would match again and again, and they come to their backend by themselves.
            if (state === "pending") {
              return yield* cannotBeDone(`invalid state "pending": what is pending is sent anyway`)
            }
            const among = yield* addressees(backend)
            const { next, redelivered, remaining } = yield* store.redeliver(
              { state, event, since: undefined, age: undefined, ...since, among },
              limit ?? Defaults.highestLimit,
              after
            )
            const matched = {
              state,
              ...(backend === undefined ? {} : { backend }),
              ...(event === undefined ? {} : { event }),
              ...(since === undefined ? {} : { since: Parameters.sinceText(since) })
            }
            log.write("info", "redelivery asked for", { ...matched, redelivered, remaining })
            return json<typeof RedeliverMatchingAnswer.Type>({
              redelivered,
              ...counted(remaining),
              next: next === undefined ? null : Parameters.cursorText(next),
              matched
            })
          },
          Effect.catchTag("StoreUnavailable", unavailable)
        )
      )
  })
)

/** Needs an `HttpRouter` and a store, so it is for durable mode only. */
export const DeliveryRoutes = ApiRoutes.layer(
  HttpApiBuilder.layer(DeliveriesApi).pipe(
    Layer.provide(Handlers),
    Layer.provide(Middleware)
  )
)

const counted = (remaining: number | undefined) => remaining === undefined ? {} : { remaining }

const rowAt = <E>(cursor: string | undefined, refuse: (reason: string) => Effect.Effect<never, E>) =>
  cursor === undefined
    ? Effect.undefined
    : Result.match(Parameters.rowAt(cursor), { onSuccess: Effect.succeed, onFailure: refuse })

const redeliverParameters = parametersIn(Parameters.RedeliverParameters)
const redeliverMatchingParameters = parametersIn(Parameters.RedeliverMatchingParameters)
