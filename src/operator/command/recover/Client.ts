/** Asks a running server to recover deliveries, over HTTP, with a client that is derived from the API. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { Environment } from "../../../settings/Variables.ts"
import { DeliveriesApi, RecoveryApi } from "../../Api.ts"
import * as Parameters from "../../Parameters.ts"
import type { Refusal } from "../../Refusals.ts"
import type { FoundLine, ProgressLine, ReportLine, StatusAnswer } from "../../recovery/Answers.ts"
import type { ServerOptions } from "../CommonFlags.ts"
import { type CommandFailed, failed, inWords, isWithoutPath, parametersOf } from "../Failures.ts"
import { runningServer } from "../RunningServer.ts"
import type { RecoverRequest } from "./Flags.ts"

type Asked = Pick<RecoverRequest, "since" | "event" | "dryRun">

export class RecoveryClient extends Context.Service<RecoveryClient, {
  /** Looks through GitHub's log. `see` gets each line before the report. */
  readonly look: (
    asked: Asked,
    see: (line: ProgressLine | FoundLine) => Effect.Effect<void>
  ) => Effect.Effect<ReportLine, CommandFailed>
  /** How far the server is with what a look has found. */
  readonly status: (run: string) => Effect.Effect<typeof StatusAnswer.Type, CommandFailed>
}>()("sprayproxy/operator/command/recover/Client/RecoveryClient") {
  static readonly layer = (options: ServerOptions, env: Environment) =>
    Layer.effect(
      RecoveryClient,
      Effect.gen(function*() {
        const server = yield* runningServer(options, env)
        const { deliveries } = yield* Effect.provide(HttpApiClient.make(DeliveriesApi, server.client), server.Guarded)
        const { recovery } = yield* Effect.provide(HttpApiClient.make(RecoveryApi, server.client), server.Guarded)
        const words = inWords(server.url, server.hasToken)

        /** Without a store and without recovery alike, the path is not there. Another path tells which it is. */
        const withoutRecovery = answerTo(deliveries.list({ query: { limit: 1 } })).pipe(
          Effect.catchTags(words),
          Effect.andThen(failed(
            `${server.url} does not recover deliveries: it runs without --github-app-id and --github-private-key-file`
          ))
        )

        const ask = <A>(asked: Effect.Effect<A, Refusal | HttpClientError | Schema.SchemaError>) =>
          Effect.catchTags(answerTo(asked), {
            ...words,
            NotKept: (error) => isWithoutPath(error) ? withoutRecovery : words.NotKept(error)
          })

        return RecoveryClient.of({
          look: Effect.fnUntraced(function*({ dryRun, event, since }, see) {
            const payload = yield* lookParameters({ since, event, dryRun })
            const lines = yield* ask(recovery.recover({ payload }))
            let report: ReportLine | undefined
            yield* lines.pipe(
              // The server has something to say every few seconds.
              Stream.timeoutOrElse({ duration: "60 seconds", orElse: () => Stream.fromEffect(words.TimeoutError()) }),
              Stream.runForEach((line) => {
                if (line.type === "failure") return failed(line.reason)
                if (line.type !== "report") return see(line)
                report = line
                return Effect.void
              }),
              Effect.catchTags({ HttpClientError: () => Effect.void, SchemaError: words.SchemaError })
            )
            return report ?? (yield* failed(`${server.url} broke off before it had looked through all`))
          }),
          status: (run) => ask(recovery.status({ query: { run } }))
        })
      })
    )
}

/** The server has begun to answer. */
const answerTo = <A>(asked: Effect.Effect<A, Refusal | HttpClientError | Schema.SchemaError>) =>
  Effect.timeout(asked, "60 seconds")

const lookParameters = parametersOf(Parameters.RecoverParameters)
