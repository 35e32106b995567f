/**
 * Failures that nothing handles: bugs, of ours or of something below us. Each gets a log line, and ends no more than what it
 * happened in.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { ServerResponse } from "node:http"
import { oneLine } from "../domain/Text.ts"
import { requestIdOf } from "./RequestId.ts"
import { Log } from "./logs/Logging.ts"

/** Effect's `HttpServer` reports what it answers with 500, `contained` what ends a round of a loop. */
export const layer: Layer.Layer<never, never, Log> = ErrorReporter.layer([
  Effect.map(Log, (log) =>
    ErrorReporter.make(({ error, fiber }) => {
      const request = Context.getOption(fiber.context, HttpServerRequest)
      log.write("error", "unexpected failure", {
        "request-id": Option.getOrUndefined(Option.map(request, idOf)),
        error: lineOf(error)
      })
    }))
])

/**
 * Thrown in a callback, a timer's or a socket's, it reaches nobody and leaves the process in no known state: it ends with exit
 * code 1. For the process as a whole, so not for tests.
 */
export const layerProcess: Layer.Layer<never, never, Log> = Layer.effectDiscard(Effect.gen(function*() {
  const log = yield* Log
  const end = (error: unknown) => {
    process.off("uncaughtException", end).on("uncaughtException", () => {})
    log.write("error", "unexpected failure: the process ends", { error: lineOf(error) })
    setTimeout(exit, lastWordsMillis)
    // The log goes out at the end of this turn, or after what it is writing now.
    setImmediate(() => process.stdout.write("", () => process.stdout.write("", exit)))
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("uncaughtException", end)),
    () => Effect.sync(() => process.off("uncaughtException", end))
  )
}))

const exit = () => process.exit(1)

/** A reader that has stopped reading the log is not waited for longer. */
const lastWordsMillis = 2_000

const lineOf = (error: unknown): string => oneLine(error instanceof Error && error.stack || String(error))

const idOf = (request: HttpServerRequest) =>
  requestIdOf(NodeHttpServerRequest.toServerResponse(request) as ServerResponse)
