/**
 * `/deliveries`: shows what the store keeps, and sends it again.
 *
 * **Details**
 *
 * Guarded like `/backends`, by what stands before us: it names backends and, when asked, shows payloads. In direct mode
 * there are no such paths.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { ServerResponse } from "node:http"
import { BackendRegistry } from "../backends/Registry.ts"
import { headerOf } from "../domain/ForwardedHeaders.ts"
import { queryOf } from "../domain/RequestTarget.ts"
import { isoTime } from "../domain/Time.ts"
import { refusingPages } from "../http/CrossSite.ts"
import { answerEarly } from "../http/EarlyAnswer.ts"
import { answerUnreadable, readJson } from "../http/JsonRequest.ts"
import { addPath } from "../http/MethodRoutes.ts"
import { Log } from "../observability/logs/Logging.ts"
import { MemoryBudget, roomFor } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import * as GoDuration from "../settings/GoDuration.ts"
import { Settings } from "../settings/Settings.ts"
import { type DeliveryFilter, DeliveryStore, type DeliveryView, type StoredDelivery } from "../store/DeliveryStore.ts"
import { WebhookVerifier } from "../webhook/Verifier.ts"
import { withPayloads } from "./Payloads.ts"
import { cursorText, highestLimit, isText, listParameters, ofQuery, parse, redeliverParameters } from "./Query.ts"
import { listAnswer, shownDelivery, type Signature } from "./Views.ts"

/** Needs an `HttpRouter`, and a store: for durable mode only. */
export const DeliveryRoutes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const store = yield* DeliveryStore
  const registry = yield* BackendRegistry
  const verifier = yield* WebhookVerifier
  const budget = yield* MemoryBudget
  const settings = yield* Settings
  const log = yield* Log
  const timers = yield* Timers
  const showing = yield* Semaphore.make(1)

  const unavailable = (request: HttpServerRequest, reason: string) => {
    log.write("error", "the store did not answer an operator", { error: reason })
    return answerEarly(request, 503, "store unavailable", { "retry-after": "10" })
  }

  const list = Effect.fnUntraced(
    function*(request: HttpServerRequest) {
      const { cursor, filter, limit } = yield* query(request, listParameters)
      const page = yield* store.list(filter, { limit: limit ?? usualLimit, after: cursor?.id })
      return HttpServerResponse.jsonUnsafe(listAnswer(page))
    },
    (self, request) =>
      Effect.catchTags(self, {
        InvalidParameter: ({ reason }) => answerEarly(request, 400, reason),
        StoreUnavailable: ({ reason }) => unavailable(request, reason)
      })
  )

  const signatureOf = (stored: StoredDelivery): Signature => {
    if (settings.insecureSkipWebhookVerify || !verifier.isReady()) return "unchecked"
    const verification = verifier.begin(headerOf(stored.headers, "x-hub-signature-256"))
    if (typeof verification === "string") return "no longer valid"
    verification.update(stored.body)
    return verification.matches() ? "valid" : "no longer valid"
  }

  /** One stored delivery at a time, charged to the memory budget until the scope is closed. */
  const load = Effect.fnUntraced(function*({ bodyLength, hasBody, id }: DeliveryView) {
    if (!hasBody) return undefined
    yield* Effect.acquireRelease(Semaphore.take(showing, 1), () => Semaphore.release(showing, 1), {
      interruptible: true
    })
    const reservation = yield* Effect.acquireRelease(
      Effect.sync(budget.open),
      (opened) => Effect.sync(() => opened.release())
    )
    reservation.verified()
    yield* roomFor(reservation, bodyLength)
    reservation.hold(bodyLength)
    // What can't be read is not there; its attempts say why.
    const read = Effect.catchIf(store.load(id), ({ fault }) => fault === "content", () => Effect.undefined)
    return yield* Effect.acquireRelease(read, (stored) => Effect.sync(() => discard(stored?.body)))
  })

  /** Its signature can only be told from the whole of it. */
  const shown = (view: AttemptedDelivery, stored: StoredDelivery | undefined) =>
    shownDelivery(view, stored, stored === undefined ? "unchecked" : signatureOf(stored))

  const payloadsOf = (request: HttpServerRequest, views: ReadonlyArray<AttemptedDelivery>) => {
    const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    const cutOff = () => void outgoing.destroy()
    return withPayloads(views, (view) =>
      Effect.gen(function*() {
        // A reader that stands still would keep others, and the memory, waiting.
        yield* Effect.acquireRelease(
          Effect.sync(() => timers.after(longestShowing, cutOff)),
          (cancel) => Effect.sync(cancel)
        )
        const stored = yield* load(view)
        return { delivery: shown(view, stored), payload: stored?.body }
      }).pipe(
        Effect.catchTag("StoreUnavailable", ({ reason }) => {
          log.write("error", "the store did not answer an operator", { error: reason })
          return Effect.andThen(Effect.sync(cutOff), Effect.never)
        })
      ))
  }

  const show = Effect.fnUntraced(
    function*(request: HttpServerRequest, guid: string) {
      const { body: withBody } = yield* query(request, ["body"])
      const views = isText(guid) ? yield* store.show(guid) : []
      if (views.length === 0) return yield* unknownDelivery(request)
      if (withBody) return HttpServerResponse.stream(payloadsOf(request, views), { contentType: "application/json" })
      const deliveries = yield* Effect.forEach(
        views,
        (view) => Effect.scoped(Effect.map(load(view), (stored) => shown(view, stored)))
      ).pipe(Effect.timeout("10 seconds"))
      return HttpServerResponse.jsonUnsafe({ deliveries })
    },
    Effect.interruptible,
    (self, request) =>
      Effect.catchTags(self, {
        InvalidParameter: ({ reason }) => answerEarly(request, 400, reason),
        TimeoutError: () => answerEarly(request, 503, "overloaded", { "retry-after": "10" }),
        StoreUnavailable: ({ reason }) => unavailable(request, reason)
      })
  )

  /** Rows of others would wait for nobody. */
  const addressees = (backend: string | undefined) => {
    const keys = registry.snapshot().map(({ key }) => key)
    return backend === undefined ? keys : keys.filter((key) => key === backend)
  }

  const redeliver = Effect.fnUntraced(
    function*(request: HttpServerRequest, guid: string) {
      const { filter: { backend } } = yield* filterOf(yield* readOptionalBody(request), ["backend"])
      const views = isText(guid) ? yield* store.show(guid) : []
      if (views.length === 0) return yield* unknownDelivery(request)
      const among = addressees(backend)
      if (among.length === 0) return yield* answerEarly(request, 422, notRegistered(backend))
      const addressed = views.filter(({ rows }) => rows.some(({ key }) => among.includes(key)))
      if (addressed.length === 0) {
        const whom = backend === undefined ? "any backend that is registered" : JSON.stringify(backend)
        return yield* answerEarly(request, 422, `the delivery has not gone to ${whom}`)
      }
      if (!addressed.some(({ hasBody }) => hasBody)) {
        return yield* answerEarly(request, 422, "the delivery's body is no longer kept")
      }
      const which = views.some((view) => view.guid === guid) ? { guid } : { id: guid }
      const { redelivered, remaining } = yield* store.redeliver({ ...which, among }, highestLimit)
      log.write("info", "redelivery asked for", { delivery: guid, backend, redelivered, remaining })
      return HttpServerResponse.jsonUnsafe({ redelivered, remaining })
    },
    (self, request) =>
      Effect.catchTags(self, {
        InvalidParameter: ({ reason }) => answerEarly(request, 422, reason),
        StoreUnavailable: ({ reason }) => unavailable(request, reason)
      }),
    answerUnreadable
  )

  const redeliverAll = Effect.fnUntraced(
    function*(request: HttpServerRequest) {
      const { cursor, filter, limit } = yield* filterOf(yield* readBody(request), redeliverParameters)
      const { age, backend, event, since, state = "dead" } = filter
      // They would match again and again, and come to their backend by themselves.
      if (state === "pending") {
        return yield* answerEarly(request, 422, `invalid state "pending": what is pending is sent anyway`)
      }
      const among = addressees(backend)
      if (among.length === 0) return yield* answerEarly(request, 422, notRegistered(backend))
      const { next, redelivered, remaining } = yield* store.redeliver(
        { state, event, since, age, among },
        limit ?? highestLimit,
        cursor
      )
      const matched = { state, backend, event, since: sinceText(filter) }
      log.write("info", "redelivery asked for", { ...matched, redelivered, remaining })
      const cursorOfRest = next === undefined ? null : cursorText(next)
      return HttpServerResponse.jsonUnsafe({ redelivered, remaining, next: cursorOfRest, matched })
    },
    (self, request) =>
      Effect.catchTags(self, {
        InvalidParameter: ({ reason }) => answerEarly(request, 422, reason),
        StoreUnavailable: ({ reason }) => unavailable(request, reason)
      }),
    answerUnreadable
  )

  yield* addPath(router, "/deliveries", refusingPages({ GET: list }))
  yield* addPath(router, "/deliveries/redeliver", refusingPages({ POST: redeliverAll }))
  yield* addPath(router, "/deliveries/:guid", refusingPages({ GET: show }))
  yield* addPath(router, "/deliveries/:guid/redeliver", refusingPages({ POST: redeliver }))
}))

const usualLimit = 50

type AttemptedDelivery = Effect.Success<ReturnType<DeliveryStore["Service"]["show"]>>[number]

/** Frees it at once. Until the next collection the payloads of one GUID would take up more than there is. */
const discard = (body: Buffer | undefined) => {
  if (
    body !== undefined && body.length > 0 && body.buffer instanceof ArrayBuffer &&
    body.length === body.buffer.byteLength
  ) {
    body.buffer.transfer(0)
  }
}

/** Milliseconds in which a payload has to be read. */
const longestShowing = 60_000

const decodeBody = Schema.decodeEffect(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown)))

const readBody = readJson(decodeBody)

const readOptionalBody = readJson((text) => decodeBody(text.trim() === "" ? "{}" : text))

const query = (request: HttpServerRequest, known: ReadonlyArray<string>) =>
  Effect.fromResult(parse(ofQuery(queryOf(request.url)), known))

const filterOf = (body: Readonly<Record<string, unknown>>, known: ReadonlyArray<string>) =>
  Effect.fromResult(parse(Object.entries(body), known))

const sinceText = ({ age, since }: DeliveryFilter): string | undefined =>
  since !== undefined ? isoTime(since) : age === undefined ? undefined : GoDuration.format(Duration.millis(age))

const notRegistered = (backend: string | undefined) =>
  backend === undefined ? "no backend is registered" : `backend ${JSON.stringify(backend)} is not registered`

const unknownDelivery = (request: HttpServerRequest) =>
  answerEarly(request, 404, "no delivery with this GUID or id is kept")
