/**
 * Failures that nothing handles: bugs of ours, or of something below us. Each gets a log line. It ends the request or
 * the round in which it happened; only an exception in a bare callback ends the process.
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

/**
 * Logs what Effect reports. `HttpServer` reports a failure that it answers with 500, `contained` one that ends a round.
 */
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
 * Logs an exception in a callback of a timer or a socket, and ends the process with exit code 1. Such an exception
 * reaches nobody, and leaves the process in an unknown state. The layer concerns the process as a whole, so tests do
 * without it.
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

/** The end waits no longer than this for a reader that has stopped reading the log. */
const lastWordsMillis = 2_000

const lineOf = (error: unknown): string => oneLine(error instanceof Error && error.stack || String(error))

const idOf = (request: HttpServerRequest) =>
  requestIdOf(NodeHttpServerRequest.toServerResponse(request) as ServerResponse)
