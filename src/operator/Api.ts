/**
 * The operators' API: paths, parameters, answers and refusals in one place. The server, the command line's client and
 * the OpenAPI document are made from it.
 *
 * **Details**
 *
 * It is loaded only where it is used: with a store, and by `sprayproxy deliveries`.
 */
import * as Schema from "effect/Schema"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as OpenApi from "effect/http-api/OpenApi"
import packageJson from "../../package.json" with { type: "json" }
import { BackendsAnswer } from "../backends/Views.ts"
import { ListAnswer, RedeliverAnswer, RedeliverMatchingAnswer, ShowAnswer } from "./Answers.ts"
import { highestLimit, redeliveredState, usualLimit } from "./Defaults.ts"
import {
  ListParameters,
  RecoverParameters,
  RedeliverMatchingParameters,
  RedeliverParameters,
  ShowParameters,
  StatusParameters,
  strictly
} from "./Parameters.ts"
import * as Refusals from "./Refusals.ts"
import { LookLine, StatusAnswer } from "./recovery/Answers.ts"

const guid = Schema.String.annotate({ description: "a GUID (X-GitHub-Delivery), or an id" })

/** All of a query is text, so the document would describe the number as text. */
const withNumericLimit = (operation: Record<string, unknown>) => {
  const parameters = operation["parameters"] as ReadonlyArray<{ readonly name: string; readonly schema: object }>
  const { schema } = parameters.find(({ name }) => name === "limit")!
  Object.assign(schema, { type: "integer", minimum: 1, maximum: highestLimit, default: usualLimit })
  return operation
}

const withOptionalBody = (operation: Record<string, unknown>) => ({
  ...operation,
  requestBody: { ...operation["requestBody"] as object, required: false }
})

const bearer = HttpApiSecurity.annotate(
  HttpApiSecurity.bearer,
  OpenApi.Description,
  "For the proxy in front of sprayproxy (on Kubernetes: a service account's). Without one there, none is needed."
)

/** The proxy in front asks for a token; sprayproxy itself never does. */
export class Guard extends HttpApiMiddleware.Service<Guard>()("sprayproxy/operator/Api/Guard", {
  requiredForClient: true,
  security: {
    token: bearer
  },
  error: [Refusals.unauthorized, Refusals.forbidden]
}) {}

/** Reads queries as the URL standard says, and refuses a bad one in a line of text. */
export class StrictQuery extends HttpApiMiddleware.Service<StrictQuery>()("sprayproxy/operator/Api/StrictQuery", {
  error: Refusals.invalidQuery
}) {}

const list = HttpApiEndpoint.get("list", "/deliveries", {
  query: ListParameters,
  success: ListAnswer,
  error: [Refusals.notKept, Refusals.unavailable]
}).middleware(StrictQuery).annotateMerge(OpenApi.annotations({
  summary: "What the store keeps, newest first",
  description: "A page may be short, or empty, before the end: go on with `next` as `cursor` until it is null.",
  transform: withNumericLimit
}))

const show = HttpApiEndpoint.get("show", "/deliveries/:guid", {
  params: { guid },
  query: ShowParameters,
  success: ShowAnswer,
  error: [Refusals.notKept, Refusals.unavailable]
}).middleware(StrictQuery).annotateMerge(OpenApi.annotations({
  summary: "Deliveries with this GUID or id: headers, backends, every attempt",
  description: "With `body=true` their payloads too. The answer is cut off where one can't be read."
}))

const redeliver = HttpApiEndpoint.post("redeliver", "/deliveries/:guid/redeliver", {
  params: { guid },
  payload: RedeliverParameters,
  success: RedeliverAnswer,
  error: [
    Refusals.notJson,
    Refusals.notKept,
    Refusals.bodyTooLarge,
    Refusals.cannotBeDone,
    Refusals.unavailable
  ]
}).annotateMerge(OpenApi.annotations({
  summary: "Sends one delivery again",
  description: "To all of its backends that are registered, or to one. The body may be empty.",
  transform: withOptionalBody
}))

const redeliverMatching = HttpApiEndpoint.post("redeliverMatching", "/deliveries/redeliver", {
  payload: RedeliverMatchingParameters,
  success: RedeliverMatchingAnswer,
  error: [Refusals.notJson, Refusals.notKept, Refusals.bodyTooLarge, Refusals.cannotBeDone, Refusals.unavailable]
}).annotateMerge(OpenApi.annotations({
  summary: "Sends again all that match",
  description:
    `Rows that are ${redeliveredState}, unless a state is given; at most ${highestLimit} at once. Repeat it with \`next\` as \`cursor\` until ` +
    "that is null."
}))

const Deliveries = HttpApiGroup.make("deliveries").add(list, show, redeliver, redeliverMatching)
  .middleware(Guard)
  .annotate(HttpApi.QueryParseOptions, strictly)
  .annotate(OpenApi.Description, "With a store.")

const recover = HttpApiEndpoint.post("recover", "/recovery", {
  payload: RecoverParameters,
  success: HttpApiSchema.StreamNdjson({ schema: LookLine }),
  error: [Refusals.notJson, Refusals.notKept, Refusals.bodyTooLarge, Refusals.cannotBeDone, Refusals.unavailable]
}).annotateMerge(OpenApi.annotations({
  summary: "Looks for missing deliveries in GitHub's log, and asks GitHub for them",
  description:
    "Lines of JSON: progress, each missing delivery, and at the end a report, or a failure if the look did not " +
    "come to its end. GitHub is asked meanwhile and after that: `GET /recovery` with `run` says how far it is. The body " +
    "may be empty.",
  transform: withOptionalBody
}))

const status = HttpApiEndpoint.get("status", "/recovery", {
  query: StatusParameters,
  success: StatusAnswer,
  error: [Refusals.notKept, Refusals.unavailable]
}).middleware(StrictQuery).annotateMerge(OpenApi.annotations({
  summary: "How far recovery is",
  description: "With `run`, the counts are of what that run has found."
}))

const Recovery = HttpApiGroup.make("recovery").add(recover, status)
  .middleware(Guard)
  .annotate(HttpApi.QueryParseOptions, strictly)
  .annotate(OpenApi.Description, "With recovery.")

const Backends = HttpApiGroup.make("backends").add(
  HttpApiEndpoint.get("list", "/backends", {
    success: [BackendsAnswer, Schema.String.pipe(HttpApiSchema.asText())]
  }).annotateMerge(OpenApi.annotations({
    summary: "Backends that get deliveries",
    description: "JSON with `Accept: application/json`; without it a line of text."
  }))
).middleware(Guard).annotate(OpenApi.Description, "With dynamic backends.")

/** The part of the API that the server makes its routes from. */
export const DeliveriesApi = HttpApi.make("sprayproxy").add(Deliveries)

/** The part that is there if deliveries are recovered. */
export const RecoveryApi = HttpApi.make("sprayproxy").add(Recovery)

/**
 * The whole API, as `docs/openapi.json` describes it. `/backends` has routes of its own, because it keeps the words of
 * the original sprayproxy. Only its JSON is described.
 */
export const OperatorApi = DeliveriesApi.add(Recovery).add(Backends).annotateMerge(OpenApi.annotations({
  title: packageJson.name,
  version: packageJson.version,
  description:
    "Stored deliveries, recovery and backends, for operators. Whatever is refused is refused in one line of plain text.",
  license: { name: packageJson.license }
}))
