/**
 * Asks a running server for its `/deliveries` over HTTP, with a client that is derived from the API.
 *
 * **Details**
 *
 * Every failure is one line: the server's own words, or why it can't be asked. Bad parameters are refused here already,
 * in the server's words.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { Environment } from "../../settings/Variables.ts"
import type { ListAnswer, RedeliverAnswer, RedeliverMatchingAnswer, ShowAnswer } from "../Answers.ts"
import { DeliveriesApi } from "../Api.ts"
import * as Parameters from "../Parameters.ts"
import type { Refusal } from "../Refusals.ts"
import type { ServerOptions } from "./CommonFlags.ts"
import { type CommandFailed, failed, inWords, parametersOf } from "./Failures.ts"
import type { GivenFilter } from "./Flags.ts"
import { runningServer } from "./RunningServer.ts"

/** The parameters as they were given: texts, or undefined if nothing was given. */
type Given = GivenFilter & { readonly limit: string | undefined; readonly cursor: string | undefined }

export class DeliveriesClient extends Context.Service<DeliveriesClient, {
  readonly list: (parameters: Given) => Effect.Effect<typeof ListAnswer.Type, CommandFailed>
  readonly show: (guid: string, withBody: boolean) => Effect.Effect<typeof ShowAnswer.Type, CommandFailed>
  /** Redelivers all rows of one delivery, or only the row of `backend`. */
  readonly redeliver: (
    guid: string,
    backend: string | undefined
  ) => Effect.Effect<typeof RedeliverAnswer.Type, CommandFailed>
  readonly redeliverMatching: (
    parameters: Given
  ) => Effect.Effect<typeof RedeliverMatchingAnswer.Type, CommandFailed>
}>()("sprayproxy/operator/command/Client/DeliveriesClient") {
  static readonly layer = (options: ServerOptions, env: Environment) =>
    Layer.effect(
      DeliveriesClient,
      Effect.gen(function*() {
        const server = yield* runningServer(options, env)
        const client = yield* Effect.provide(HttpApiClient.make(DeliveriesApi, server.client), server.Guarded)

        const ask = <A>(asked: Effect.Effect<A, Refusal | HttpClientError | Schema.SchemaError>) =>
          asked.pipe(
            Effect.timeout("60 seconds"),
            Effect.catchTags(inWords(server.url, server.hasToken))
          )

        return DeliveriesClient.of({
          list: (given) => Effect.flatMap(listParameters(given), (query) => ask(client.deliveries.list({ query }))),
          show: (guid, withBody) =>
            Effect.flatMap(segment(guid), (params) =>
              ask(client.deliveries.show({ params, query: withBody ? { body: true } : {} }))),
          redeliver: Effect.fnUntraced(function*(guid, backend) {
            const params = yield* segment(guid)
            const payload = yield* redeliverParameters({ backend })
            return yield* ask(client.deliveries.redeliver({ params, payload }))
          }),
          redeliverMatching: (given) =>
            Effect.flatMap(
              redeliverMatchingParameters(given),
              (payload) =>
                ask(client.deliveries.redeliverMatching({ payload }))
            )
        })
      })
    )
}

/** A GUID as a segment of a path. `.` and `..` are refused, because they would be taken for a way up. */
const segment = (guid: string) =>
  guid === "." || guid === ".." ? failed("no delivery with this GUID or id is kept") : Effect.succeed({ guid })

const listParameters = parametersOf(Parameters.ListParameters)
const redeliverParameters = parametersOf(Parameters.RedeliverParameters)
const redeliverMatchingParameters = parametersOf(Parameters.RedeliverMatchingParameters)
