/**
 * `GET /openapi.json`: the document of the operators' API. It is guarded like the API, and is there if any part of the
 * API is.
 *
 * **Details**
 *
 * The copy among the docs is served. A test keeps that copy equal to the API, because making the document here would
 * hold up deliveries for ten milliseconds and more. It is loaded at the first request, so that a start does not pay for
 * it.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { refusingPages } from "../http/CrossSite.ts"
import { addPath } from "../http/MethodRoutes.ts"
import { Settings } from "../settings/Settings.ts"

const answer = Effect.map(
  Effect.promise(() => import("../../docs/openapi.json", { with: { type: "json" } })),
  (document) => HttpServerResponse.jsonUnsafe(document.default)
)

/** Needs an `HttpRouter`. Adds nothing to it if there is neither a store nor dynamic backends. */
export const DocumentRoute = Layer.unwrap(
  Effect.map(Settings, ({ enableDynamicBackends, store }) =>
    enableDynamicBackends || Option.isSome(store)
      ? HttpRouter.use((router) => addPath(router, "/openapi.json", refusingPages({ GET: () => answer })))
      : Layer.empty)
)
