/** All routes of the public listener, on Effect's `HttpServer`. */
import * as Layer from "effect/Layer"
import * as HttpRouter from "effect/http/HttpRouter"
import { BackendRoutes } from "./backends/Routes.ts"
import { addNotFound, routerConfig } from "./http/MethodRoutes.ts"
import { DocumentRoute } from "./operator/DocumentRoute.ts"
import { HealthRoutes } from "./webhook/HealthRoutes.ts"
import { WebhookRoutes } from "./webhook/Routes.ts"

/** The routes of direct mode, and `routes`, which a mode adds to them. */
export const layerWith = <E, R>(routes: Layer.Layer<never, E, R>) =>
  HttpRouter.serve(
    Layer.mergeAll(WebhookRoutes, HealthRoutes, BackendRoutes, DocumentRoute, routes, HttpRouter.use(addNotFound)),
    {
      disableLogger: true,
      disableListenLog: true,
      routerConfig
    }
  )

export const layer = layerWith(Layer.empty)
