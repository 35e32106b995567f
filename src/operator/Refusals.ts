/**
 * The refusals of the operators' API. Each is one line of plain text on the wire, and an error on both sides of it.
 * None is a failure of the program, so none is reported as one.
 */
import * as ErrorReporter from "effect/ErrorReporter"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import { BodyTooLarge, NotJson } from "../http/JsonRequest.ts"

/** A parameter of the query is unknown or has a bad value. */
export class InvalidQuery extends Schema.TaggedError<InvalidQuery>()("InvalidQuery", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

/** The request has no valid token. The proxy in front of us says so. */
class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

/** Whoever asks may not. The proxy in front of us says so, and we say it to web pages. */
class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

/** No such delivery is kept, or none at all. */
export class NotKept extends Schema.TaggedError<NotKept>()("NotKept", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The request was understood and can't be done: a bad filter, a backend that is not registered, a body that is no
 * longer kept.
 */
export class CannotBeDone extends Schema.TaggedError<CannotBeDone>()("CannotBeDone", {
  reason: Schema.String
}) {
  override readonly [ErrorReporter.ignore] = true
}

/** The request may succeed later. */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

export type Refusal =
  | InvalidQuery
  | NotJson
  | Unauthorized
  | Forbidden
  | NotKept
  | BodyTooLarge
  | CannotBeDone
  | Unavailable

const plainText = HttpApiSchema.asText({ contentType: "text/plain; charset=utf-8" })

const inWords = <Self extends { readonly reason: string }, S extends Schema.Codec<Self, unknown>>(
  refusal: S & (new(fields: { readonly reason: string }) => Self),
  status: number,
  description: string
) =>
  Schema.String.pipe(
    Schema.decodeTo(
      Schema.toType(refusal),
      SchemaTransformation.transform({
        decode: (reason: string) => new refusal({ reason }),
        encode: ({ reason }: Self) => reason
      })
    ),
    plainText
  ).annotate({ httpApiStatus: status, description, identifier: undefined })

export const invalidQuery = inWords(InvalidQuery, 400, "a parameter is unknown or has a bad value: the line names it")
export const notJson = inWords(NotJson, 400, "the body is no JSON object")
export const unauthorized = inWords(Unauthorized, 401, "no token, or none that is valid")
export const forbidden = inWords(Forbidden, 403, "the token's account may not, or a web page has asked")
export const notKept = inWords(
  NotKept,
  404,
  "no delivery with this GUID or id is kept, or there is no store"
)
export const bodyTooLarge = inWords(BodyTooLarge, 413, "the body has more than 64 KiB")
export const cannotBeDone = inWords(CannotBeDone, 422, "it can't be done: the line says why")
export const unavailable = Unavailable.pipe(HttpApiSchema.encodeToWithHeaders({
  body: Schema.String.pipe(plainText).annotate({ httpApiStatus: 503 }),
  headers: { "retry-after": Schema.optionalKey(Schema.String.annotate({ description: "seconds" })) }
}, {
  decode: ({ body }) => new Unavailable({ reason: body }),
  encode: ({ reason }) => ({ body: reason, headers: { "retry-after": "10" } })
})).annotate({ description: "the store does not answer, or there is no memory for a payload" })
