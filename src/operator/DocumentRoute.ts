/**
 * `GET /openapi.json`: the document of what operators can ask for. Guarded like what it describes, and there where any of it is.
 *
 * **Details**
 *
 * The copy among the docs is what is served. A test keeps it equal to the API; making it here would hold up deliveries for ten
 * milliseconds and more. It is loaded at the first request: a start does not pay for it.
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

/** Needs an `HttpRouter`; adds nothing to it where there is neither a store nor dynamic backends. */
export const DocumentRoute = Layer.unwrap(
  Effect.map(Settings, ({ enableDynamicBackends, store }) =>
    enableDynamicBackends || Option.isSome(store)
      ? HttpRouter.use((router) => addPath(router, "/openapi.json", refusingPages({ GET: () => answer })))
      : Layer.empty)
)
