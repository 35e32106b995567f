/**
 * Loads stored deliveries in full, one at a time. Each is charged to the memory budget while it is here.
 *
 * **Details**
 *
 * A signature can be checked only over the whole body. So each delivery is loaded, even if payloads are not asked for.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { ServerResponse } from "node:http"
import { headerOf } from "../domain/ForwardedHeaders.ts"
import { Log } from "../observability/logs/Logging.ts"
import { MemoryBudget, roomFor } from "../runtime/MemoryBudget.ts"
import { Timers } from "../runtime/Timers.ts"
import { Settings } from "../settings/Settings.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import type { DeliveryView } from "../store/contract/Operator.ts"
import type { StoredDelivery } from "../store/contract/Queue.ts"
import { WebhookVerifier } from "../webhook/Verifier.ts"
import type { Signature } from "./Answers.ts"
import { withPayloads } from "./Payloads.ts"
import { type AttemptedDelivery, shownDelivery } from "./Views.ts"

export const make = Effect.gen(function*() {
  const store = yield* DeliveryStore
  const verifier = yield* WebhookVerifier
  const budget = yield* MemoryBudget
  const settings = yield* Settings
  const log = yield* Log
  const timers = yield* Timers
  const showing = yield* Semaphore.make(1)

  const signatureOf = (stored: StoredDelivery): Signature => {
    if (settings.insecureSkipWebhookVerify || !verifier.isReady()) return "unchecked"
    const verification = verifier.begin(headerOf(stored.headers, "x-hub-signature-256"))
    if (typeof verification === "string") return "no longer valid"
    verification.update(stored.body)
    return verification.matches() ? "valid" : "no longer valid"
  }

  /** The delivery is here until the scope is closed. */
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
    // A delivery that can't be read counts as not kept. Its attempts say why.
    const read = Effect.catchIf(store.load(id), ({ fault }) => fault === "content", () => Effect.undefined)
    return yield* Effect.acquireRelease(read, (stored) => Effect.sync(() => discard(stored?.body)))
  })

  const shown = (view: AttemptedDelivery, stored: StoredDelivery | undefined) =>
    shownDelivery(view, stored, stored === undefined ? "unchecked" : signatureOf(stored))

  return {
    withoutPayload: (view: AttemptedDelivery) => Effect.scoped(Effect.map(load(view), (stored) => shown(view, stored))),

    /** The bytes of the answer. It is cut off if a payload can't be loaded, or is not read in time. */
    withPayloads: (request: HttpServerRequest, views: ReadonlyArray<AttemptedDelivery>) => {
      const outgoing = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
      const cutOff = () => void outgoing.destroy()
      return withPayloads(views, (view) =>
        Effect.gen(function*() {
          // A reader that stands still would keep other readers, and the memory, waiting.
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
  }
})

/**
 * Frees the body's memory at once. Otherwise the payloads of one GUID would take up more than there is until the next
 * collection.
 */
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
