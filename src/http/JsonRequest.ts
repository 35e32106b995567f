/**
 * Reads the JSON that operators and their scripts send.
 *
 * **Details**
 *
 * The body is JSON whatever its `Content-Type` says. It may have at most 64 KiB and must be there within ten seconds.
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import type { HttpServerError } from "effect/http/HttpServerError"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { answerEarly } from "./EarlyAnswer.ts"

const maxBodyBytes = 64 * 1024

/** The body has more than 64 KiB. */
export class BodyTooLarge extends Schema.TaggedError<BodyTooLarge>()("BodyTooLarge", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

/** The body is not the JSON that is expected, or is not there in time. */
export class NotJson extends Schema.TaggedError<NotJson>()("NotJson", { reason: Schema.String }) {
  override readonly [ErrorReporter.ignore] = true
}

/** Reads and decodes a request's body. */
export const readJson = <A>(decode: (text: string) => Effect.Effect<A, Schema.SchemaError>) =>
  Effect.fnUntraced(
    function*(request: HttpServerRequest) {
      if (Number(request.headers["content-length"] ?? 0) > maxBodyBytes) return yield* tooLarge()
      // Interrupting the read would destroy the connection before the answer. So the read goes on until the body or the
      // sender ends.
      const reading = yield* Effect.forkDetach(request.text, { uninterruptible: true })
      return yield* decode(yield* Fiber.join(reading))
    },
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(maxBodyBytes)),
    Effect.timeout("10 seconds"),
    Effect.catchTags({
      HttpServerError: (error) => isTooLarge(error) ? tooLarge() : notJson(),
      SchemaError: () => notJson(),
      TimeoutError: () => notJson()
    })
  )

/** Answers a body that `readJson` could not read. */
export const answerUnreadable = <A, R>(
  self: Effect.Effect<A, BodyTooLarge | NotJson, R>,
  request: HttpServerRequest
) =>
  Effect.catchTags(self, {
    BodyTooLarge: ({ reason }) => answerEarly(request, 413, reason),
    NotJson: ({ reason }) => answerEarly(request, 400, reason)
  })

const tooLarge = () => Effect.fail(new BodyTooLarge({ reason: "request body too large" }))

const notJson = () => Effect.fail(new NotJson({ reason: "please provide a valid json body" }))

const isTooLarge = ({ reason }: HttpServerError) =>
  Predicate.isTagged(reason, "RequestParseError") && reason.reason === "BodyTooLarge"
