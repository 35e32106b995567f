/**
 * Shared by the handlers of the API: how they read JSON and queries, and how they refuse.
 *
 * **Details**
 *
 * Bodies are read here and not by the `HttpApi`, which would go by their `Content-Type`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { readJson } from "../http/JsonRequest.ts"
import type { Log } from "../observability/logs/Logging.ts"
import type { StoreUnavailable } from "../store/contract/Unavailable.ts"
import { Guard, StrictQuery } from "./Api.ts"
import * as Parameters from "./Parameters.ts"
import { CannotBeDone, InvalidQuery, Unavailable } from "./Refusals.ts"

export const json = <A>(answer: A) => HttpServerResponse.jsonUnsafe(answer)

export const invalidQuery = (reason: string) => Effect.fail(new InvalidQuery({ reason }))

export const cannotBeDone = (reason: string) => Effect.fail(new CannotBeDone({ reason }))

/** Outsiders are not told why. */
export const storeUnavailable = (log: Log["Service"]) => ({ reason }: StoreUnavailable) => {
  log.write("error", "the store did not answer an operator", { error: reason })
  return Effect.fail(new Unavailable({ reason: "store unavailable" }))
}

const decodeBody = Schema.decodeEffect(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown)))

export const readBody = readJson(decodeBody)

export const readOptionalBody = readJson((text) => decodeBody(text.trim() === "" ? "{}" : text))

/** Reads the parameters in a body. */
export const parametersIn = <A>(schema: Schema.ConstraintDecoder<A>) => {
  const decode = Schema.decodeUnknownEffect(schema, Parameters.strictly)
  return (body: unknown) =>
    Effect.catchTag(decode(body), "SchemaError", ({ issue }) => cannotBeDone(Parameters.reasonOf(issue)))
}

const RefusingQueries = HttpApiMiddleware.layerSchemaErrorTransform(
  StrictQuery,
  (error) => error.kind === "Query" ? invalidQuery(Parameters.refusalOfQuery(error.cause.issue)) : Effect.fail(error)
)

/** The middleware of the API. Nobody is asked for a token here: that is for the proxy in front of us. */
export const Middleware = Layer.merge(RefusingQueries, Layer.succeed(Guard, { token: (served) => served }))
