/** Adds routes on exact paths to Effect's router, which itself matches loosely. */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type * as Types from "effect/Types"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { HttpServerResponse } from "effect/http/HttpServerResponse"
import type { ServerResponse } from "node:http"
import { pathOf } from "../domain/RequestTarget.ts"
import { answerEarly } from "./EarlyAnswer.ts"

/** Paths match exactly, as they do in the sidecar. */
export const routerConfig = { caseSensitive: true, ignoreTrailingSlash: false, ignoreDuplicateSlashes: false }

/** `variable` is the text in the place of the path's `:name`, unescaped. It is empty for a path without one. */
type Handler = (
  request: HttpServerRequest,
  variable: string
) => Effect.Effect<HttpServerResponse, never, HttpRouter.GlobalProvided>

/** The handlers of one path, by method. */
export type Handlers = Readonly<Partial<Record<"GET" | "POST" | "DELETE", Handler>>>

/**
 * Adds one path with a handler for each of its methods. Every other method is answered 405, and `HEAD` is answered as
 * `GET`. One segment of the path may be a variable: `/deliveries/:guid`. `unknownCoding` has handlers, by method, that
 * answer 501 to a body in a transfer coding that is not known here. Without one the answer is written down nowhere.
 *
 * The router itself takes a path with escapes or parameters for the path that it stands for: `/%70roxy` would be
 * `/proxy`. So paths are compared once more here, exactly, because the sidecar in front of us lets exact paths pass.
 */
export const addPath = (
  router: HttpRouter.HttpRouter,
  path: `/${string}`,
  handlers: Handlers,
  unknownCoding: Handlers = {}
) => {
  const allow = Object.keys(handlers).join(", ")
  const variableOf = matcher(path)
  return router.add(
    "*",
    path,
    (request) => {
      const variable = variableOf(pathOf(request.url))
      if (variable === undefined) return notFound(request)
      const incoming = NodeHttpServerRequest.toIncomingMessage(request)
      // Not `request.headers`: Effect would copy all headers for one look.
      const unreadable = incoming.headers["transfer-encoding"] === undefined
        ? undefined
        : codingRefusal(request, unknownCoding)
      if (unreadable !== undefined) return unreadable
      const method = request.method === "HEAD" ? "GET" : request.method
      const handler = handlers[method as keyof typeof handlers]
      return handler === undefined
        ? answerEarly(request, 405, "method not allowed", { allow })
        : handler(request, variable)
    },
    { uninterruptible: true }
  )
}

/**
 * Refuses a body in a transfer coding that is not known here, and in any coding if the request is HTTP/1.0 (RFC 9112
 * §6.1). A body whose last coding is not `chunked` has no end that can be found. Node answers that itself.
 */
const codingRefusal = (request: HttpServerRequest, unknownCoding: Handlers) => {
  const { httpVersion } = NodeHttpServerRequest.toIncomingMessage(request)
  const codings = (request.headers["transfer-encoding"] ?? "").toLowerCase().split(",").map((coding) => coding.trim())
  if (codings.at(-1) !== "chunked") return undefined
  if (httpVersion === "1.0") {
    const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
    response.shouldKeepAlive = false
    return answerEarly(request, 400, "bad request")
  }
  if (codings.length === 1) return undefined
  const handler = unknownCoding[request.method as keyof typeof unknownCoding]
  return handler === undefined ? answerEarly(request, 501, "transfer coding not implemented") : handler(request, "")
}

/** Finds the variable in a path that matches. Undefined for any other path. */
const matcher = (pattern: string): (path: string) => string | undefined => {
  const [before, name, after] = pattern.split(/:(\w+)/)
  if (name === undefined) return (path) => path === pattern ? "" : undefined
  return (path) => {
    const end = path.length - after!.length
    const segment = path.slice(before!.length, end)
    const matches = path.startsWith(before!) && path.endsWith(after!) && segment !== "" && !segment.includes("/")
    return matches ? unescaped(segment) : undefined
  }
}

const unescaped = (segment: string): string | undefined => {
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}

/** Answers 404 on every path that nothing else was added for. */
export const addNotFound = (router: HttpRouter.HttpRouter) =>
  Effect.andThen(
    router.add("*", "/*", (request) => notFound(request)),
    // For a path with a broken escape (`/%`) the router finds no route at all.
    router.addGlobalMiddleware((app) =>
      Effect.catch(app, (error: unknown) =>
        HttpServerError.isHttpServerError(error) && Predicate.isTagged(error.reason, "RouteNotFound")
          ? notFound(error.reason.request)
          : Effect.fail(error as Types.unhandled))
    )
  )

const notFound = (request: HttpServerRequest) => answerEarly(request, 404, "not found")
