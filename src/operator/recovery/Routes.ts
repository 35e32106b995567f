/**
 * `/recovery`: looks through GitHub's log for deliveries that are missing, and tells how far recovery is.
 *
 * **Details**
 *
 * The proxy in front of us guards these paths as it guards `/deliveries`. Without recovery they do not exist.
 *
 * A look may take minutes, of which GitHub's limits may make it wait some without a word. Proxies cut an answer off in
 * which nothing comes for half a minute, so the progress is said again and again.
 *
 * **Gotchas**
 *
 * The status goes out before GitHub is asked. A look that fails ends in a line that says so.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import { randomUUID } from "node:crypto"
import * as ApiRoutes from "../../http/ApiRoutes.ts"
import { Readiness } from "../../http/Readiness.ts"
import { Log } from "../../observability/logs/Logging.ts"
import { type LookQuestion, Recovery } from "../../recovery/Recovery.ts"
import { Settings } from "../../settings/Settings.ts"
import { RecoveryApi } from "../Api.ts"
import { Middleware, parametersIn, readOptionalBody, storeUnavailable } from "../Handling.ts"
import * as Parameters from "../Parameters.ts"
import type { LookLine, ReportLine } from "./Answers.ts"
import { lookLines, statusAnswer } from "./Views.ts"

/** A look is never silent for longer. */
const longestSilence = Duration.seconds(5)

const Handlers = HttpApiBuilder.group(
  RecoveryApi,
  "recovery",
  Effect.fnUntraced(function*(handlers) {
    const recovery = yield* Recovery
    const log = yield* Log
    const readiness = yield* Readiness
    const { recoveryMaxAge } = yield* Settings

    const status = (run?: string) => Effect.catchTag(recovery.status(run), "StoreUnavailable", storeUnavailable(log))

    const logged = ({ missing, since }: ReportLine, { dryRun, events = [], run }: LookQuestion) =>
      Effect.sync(() => {
        if (!dryRun) log.write("info", "recovery asked for", { run, since, event: events[0], missing })
      })

    const linesOf = (question: LookQuestion): Stream.Stream<LookLine> => {
      let latest: LookLine = { type: "progress", attempts: 0, reached: null }
      const looking = recovery.look(question).pipe(
        Stream.map(lookLines),
        Stream.flattenIterable,
        Stream.catchTags({
          GitHubUnavailable: ({ reason }) => Stream.succeed(failure(reason)),
          StoreUnavailable: ({ reason }) => {
            log.write("error", "the store did not answer an operator", { error: reason })
            return Stream.succeed(failure("store unavailable"))
          }
        }),
        Stream.tap((line) => {
          if (line.type === "progress") latest = line
          return line.type === "report" ? logged(line, question) : Effect.void
        })
      )
      // A process that is about to end does not wait for a look.
      const repeating = Stream.map(
        Stream.tick(longestSilence),
        () => readiness.isDraining() ? failure("the server is about to end") : latest
      )
      return Stream.takeUntil(
        Stream.merge(looking, repeating, { haltStrategy: "left" }),
        ({ type }) => type === "report" || type === "failure"
      )
    }

    return handlers
      .handleRaw(
        "recover",
        Effect.fnUntraced(function*({ request }) {
          const { dryRun = false, event, since } = yield* recoverParameters(yield* readOptionalBody(request))
          // Says in a status that the store does not answer, as long as there is one to say it in.
          const { startedAt } = yield* status()
          const now = yield* Clock.currentTimeMillis
          const question = {
            since: since === undefined
              ? Math.max(startedAt, now - Duration.toMillis(recoveryMaxAge))
              : "since" in since
              ? since.since
              : now - since.age,
            events: event === undefined ? undefined : [event],
            dryRun,
            run: randomUUID()
          }
          return linesOf(question)
        })
      )
      .handle("status", ({ query: { run } }) => Effect.map(status(run), statusAnswer))
  })
)

/** Needs an `HttpRouter` and recovery. */
export const RecoveryRoutes = ApiRoutes.layer(
  HttpApiBuilder.layer(RecoveryApi).pipe(Layer.provide(Handlers), Layer.provide(Middleware))
)

const failure = (reason: string): LookLine => ({ type: "failure", reason })

const recoverParameters = parametersIn(Parameters.RecoverParameters)
