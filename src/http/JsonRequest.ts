/**
 * Reads the JSON that operators and their scripts send, and answers what can't be read.
 *
 * **Details**
 *
 * The body is JSON whatever its `Content-Type` says. It may have 64 KiB and must be there within ten seconds.
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { answerEarly } from "./EarlyAnswer.ts"

const maxBodyBytes = 64 * 1024

class BodyTooLarge extends Schema.TaggedError<BodyTooLarge>()("BodyTooLarge", {}) {}

/** A request's body, decoded. */
export const readJson = <A>(decode: (text: string) => Effect.Effect<A, Schema.SchemaError>) =>
  Effect.fnUntraced(
    function*(request: HttpServerRequest) {
      if (Number(request.headers["content-length"] ?? 0) > maxBodyBytes) return yield* new BodyTooLarge()
      // Interrupting the read would destroy the connection before the answer: it goes on until the body or the sender ends.
      const reading = yield* Effect.forkDetach(request.text, { uninterruptible: true })
      return yield* decode(yield* Fiber.join(reading))
    },
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(maxBodyBytes)),
    Effect.timeout("10 seconds")
  )

type Unreadable = Effect.Error<ReturnType<ReturnType<typeof readJson>>>

/** Answers a body that `readJson` could not read. */
export const answerUnreadable = <A, R>(self: Effect.Effect<A, Unreadable, R>, request: HttpServerRequest) => {
  const refuse = (status: number, body: string) => answerEarly(request, status, body)
  const notJson = () => refuse(400, "please provide a valid json body")
  const tooLarge = () => refuse(413, "request body too large")
  return Effect.catchTags(self, {
    BodyTooLarge: tooLarge,
    HttpServerError: ({ reason }) =>
      Predicate.isTagged(reason, "RequestParseError") && reason.reason === "BodyTooLarge" ? tooLarge() : notJson(),
    SchemaError: notJson,
    TimeoutError: notJson
  })
}
