/**
 * Serves an `HttpApi` on exact paths.
 *
 * **Details**
 *
 * The routes of the `HttpApi` decode, handle and encode. They are added as paths and methods of ours, because Effect's
 * own router does not match exactly. The variable of a path and the query are read as on our other routes (the URL
 * standard's way). A refusal that leaves the body unread is an early answer.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import { type HttpServerRequest, ParsedSearchParams } from "effect/http/HttpServerRequest"
import * as UrlParams from "effect/http/UrlParams"
import { queryOf } from "../domain/RequestTarget.ts"
import { refusingPages } from "./CrossSite.ts"
import { leaveUnread } from "./EarlyAnswer.ts"
import { addPath, type Handlers } from "./MethodRoutes.ts"

type Route = HttpRouter.Route<never, HttpRouter.Provided>

/** `routes` is an `HttpApiBuilder.layer` with its handlers. The layer needs an `HttpRouter`. */
export const layer = <E, R>(routes: Layer.Layer<never, E, R>) =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    const paths = new Map<`/${string}`, Array<Route>>()
    const collecting = HttpRouter.HttpRouter.of({
      ...router,
      addAll: (added) =>
        Effect.sync(() => {
          for (const route of added as ReadonlyArray<unknown> as ReadonlyArray<Route>) {
            const path = route.path as `/${string}`
            paths.set(path, [...paths.get(path) ?? [], route])
          }
        })
    })
    yield* Layer.build(
      Layer.provide(routes, [Layer.succeed(HttpRouter.HttpRouter, collecting), HttpServer.layerServices])
    )
    for (const [path, ofPath] of paths) {
      const handlers = Object.fromEntries(ofPath.map((route) => [route.method, handlerOf(route)]))
      yield* addPath(router, path, refusingPages(handlers))
    }
  }))

const handlerOf = (route: Route): Handlers["GET"] => {
  const [, name = ""] = /:(\w+)/.exec(route.path) ?? []
  return (request: HttpServerRequest, variable: string) => {
    const query = UrlParams.toRecord(UrlParams.fromInput(new URLSearchParams(queryOf(request.url))))
    return route.handler.pipe(
      Effect.provideService(ParsedSearchParams, query),
      Effect.provideService(HttpRouter.RouteContext, { params: { [name]: variable }, route }),
      Effect.filterOrElse(({ status }) => status < 400, (refusal) => leaveUnread(request, refusal))
    )
  }
}
