/**
 * `/backends`: shows, registers and unregisters backends.
 *
 * **Details**
 *
 * The body is JSON whatever its `Content-Type` says, even on DELETE: the scripts in use send it with `curl --data`,
 * which calls it a form.
 *
 * Without dynamic backends in the settings the path does not exist.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { refusingPages } from "../http/CrossSite.ts"
import { answerUnreadable, readJson } from "../http/JsonRequest.ts"
import { addPath } from "../http/MethodRoutes.ts"
import { plainText } from "../http/PlainText.ts"
import { Settings } from "../settings/Settings.ts"
import * as RegistrationTerms from "./RegistrationTerms.ts"
import { BackendRegistry } from "./Registry.ts"
import { backendsAnswer } from "./Views.ts"

const routes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const registry = yield* BackendRegistry

  const list = (request: HttpServerRequest) =>
    Effect.map(registry.list, (registrations) =>
      prefersJson(request.headers["accept"] ?? "")
        ? HttpServerResponse.jsonUnsafe(backendsAnswer(registrations))
        : plainText(200, `Backend urls: ${registrations.map(({ backend }) => backend.url).join(", ")}`))

  const register = Effect.fnUntraced(
    function*(request: HttpServerRequest) {
      const { events, repositories, ttl, url } = yield* readBody(request)
      const terms = yield* Effect.fromResult(RegistrationTerms.parse({ ttl, repositories, events }))
      const registered = yield* registry.register({ url, ...terms })
      return registered === "registered"
        ? plainText(200, "registered the backend server")
        : plainText(302, "backend server already registered")
    },
    Effect.catchTags({
      InvalidTerms: ({ reason }) => Effect.succeed(plainText(422, reason)),
      InvalidBackendUrl: ({ reason }) => Effect.succeed(plainText(422, reason)),
      BackendRefused: ({ reason }) => Effect.succeed(plainText(422, reason)),
      BackendLimitReached: ({ limit }) =>
        Effect.succeed(plainText(409, `no more than ${limit} dynamic backends are allowed`))
    }),
    answerUnreadable
  )

  const unregister = Effect.fnUntraced(
    function*(request: HttpServerRequest) {
      const { url } = yield* readBody(request)
      yield* registry.unregister(url)
      return plainText(200, "backend server unregistered")
    },
    Effect.catchTags({
      BackendNotFound: () => Effect.succeed(plainText(404, "backend server not found in the list")),
      StaticBackend: () => Effect.succeed(plainText(403, "a static backend can't be unregistered"))
    }),
    answerUnreadable
  )

  yield* addPath(router, "/backends", refusingPages({ GET: list, POST: register, DELETE: unregister }))
}))

/** Needs an `HttpRouter`; adds nothing to it unless dynamic backends are enabled. */
export const BackendRoutes = Layer.unwrap(
  Effect.map(Settings, (settings) => settings.enableDynamicBackends ? routes : Layer.empty)
)

const decodeBody = Schema.decodeEffect(Schema.fromJsonString(Schema.Struct({
  url: Schema.String,
  ttl: Schema.optional(Schema.Unknown),
  repositories: Schema.optional(Schema.Unknown),
  events: Schema.optional(Schema.Unknown)
})))

const readBody = readJson(decodeBody)

/**
 * Whether `Accept` prefers JSON to text (RFC 9110 §12.5.1). At the same weight a type that is named wins over a
 * wildcard, and after that the type that is named first.
 */
const prefersJson = (accept: string): boolean => {
  const ranges = accept.toLowerCase().split(",").map((range, place) => {
    const [type, ...parameters] = range.split(";").map((part) => part.trim())
    const weight = parameters.find((parameter) => parameter.startsWith("q="))
    return { type, place, weight: weight === undefined ? 1 : Number(weight.slice("q=".length)) }
  })
  const rangeOf = (...names: ReadonlyArray<string>) => {
    for (const [generality, name] of names.entries()) {
      const range = ranges.find(({ type }) => type === name)
      if (range !== undefined) return { ...range, generality }
    }
    return { weight: 0, generality: names.length, place: ranges.length }
  }
  const json = rangeOf("application/json", "application/*", "*/*")
  const other = rangeOf("text/plain", "text/*", "*/*")
  if (json.weight !== other.weight || json.weight === 0) return json.weight > other.weight
  if (json.generality !== other.generality) return json.generality < other.generality
  return json.place < other.place
}
