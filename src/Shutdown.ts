/**
 * The end of a process that has been told to stop: no delivery that was sent to it is lost.
 *
 * **Details**
 *
 * `/readyz` says `draining` at once, and replies close their connections. The listener goes on accepting for
 * `--shutdown-delay`, while endpoints are withdrawn. Then replies and attempts share `--shutdown-grace`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type CutOff, Spray } from "./forwarding/Spray.ts"
import { PublicServer } from "./http/PublicServer.ts"
import { Readiness } from "./http/Readiness.ts"
import { Log } from "./observability/logs/Logging.ts"
import { RefusalLog } from "./observability/logs/RefusalLog.ts"
import { Settings } from "./settings/Settings.ts"

/** Some attempts had no outcome when the grace was over. */
export class GraceExceeded extends Schema.TaggedError<GraceExceeded>()("GraceExceeded", {
  attempts: Schema.Finite
}) {
  override get message() {
    return `the shutdown grace was over before every attempt had an outcome (${this.attempts} cut off)`
  }
}

/** Requests that were on their way when the listener closed have this long to be read. */
const linger = Duration.millis(200)

const drain = Effect.gen(function*() {
  const settings = yield* Settings
  const log = yield* Log
  const server = yield* PublicServer
  const spray = yield* Spray
  const readiness = yield* Readiness
  const refusals = yield* RefusalLog

  log.write("info", "shutting down", { deliveries: spray.inFlight() })
  readiness.beginDraining()
  yield* server.beginDraining
  yield* Effect.sleep(settings.shutdownDelay)
  yield* server.stopAccepting
  yield* Effect.sleep(linger)
  // While attempts end, open connections bring new deliveries. Both have to be idle at once.
  const idle = Effect.gen(function*() {
    yield* server.idle
    while (spray.inFlight() > 0) {
      yield* spray.idle
      yield* server.idle
    }
  })
  const drained = yield* Effect.timeoutOption(idle, settings.shutdownGrace)
  if (Option.isNone(drained)) {
    const cutOff = yield* spray.cutOff
    log.write("error", "shutdown grace exceeded", {
      grace: Duration.format(settings.shutdownGrace),
      attempts: cutOff.length,
      deliveries: namesOf(cutOff)
    })
    yield* server.closeConnections
    if (cutOff.length > 0) return yield* new GraceExceeded({ attempts: cutOff.length })
  }
  yield* server.closeConnections
  yield* refusals.report
  log.write("info", "stopped")
})

/** The most deliveries that one line names. Each attempt that was cut off has a log line of its own too. */
const mostNamed = 50

/** Names the deliveries that nobody will send again. By these names an operator can find them at GitHub. */
const namesOf = (cutOff: ReadonlyArray<CutOff>): string | undefined => {
  const names = [...new Set(cutOff.map(({ delivery }) => delivery.guid ?? delivery.requestId))]
  if (names.length === 0) return undefined
  const more = names.length > mostNamed ? ` and ${names.length - mostNamed} more` : ""
  return names.slice(0, mostNamed).join(" ") + more
}

/** Whoever sends a second signal does not want to wait. */
const exitOnNextSignal = Effect.sync(() => {
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))
})

/** Serves until it is interrupted, and ends when everything is drained. Fails if something had to be cut off. */
export const untilShutDown = Effect.onInterrupt(
  Effect.never,
  // The drain has a fiber of its own. In the fiber that was interrupted, no time-out could interrupt anything.
  () => Effect.andThen(exitOnNextSignal, Effect.flatMap(Effect.forkDetach(drain), Fiber.join))
)
