/** GitHub's log, read with Octokit. */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { InvalidProxy } from "../../backends/connections/ProxyRules.ts"
import type { Log } from "../../observability/logs/Logging.ts"
import { Settings } from "../../settings/Settings.ts"
import { GitHubLog } from "../GitHubLog.ts"
import type { RecoveryMetrics } from "../RecoveryMetrics.ts"
import { type ClientOptions, type GitHubApp, isRefusal, make } from "./Client.ts"
import { notTheApi, said } from "./Failures.ts"
import { attemptsOf, hookIdIn } from "./Rows.ts"

/** Ready when the file of the key has been read once. */
export const layer = (app: GitHubApp) => layerFrom(app, { env: process.env, pause: 1_000 })

export const layerFrom = (
  app: GitHubApp,
  options: ClientOptions
): Layer.Layer<GitHubLog, InvalidProxy, Settings | Log | RecoveryMetrics | FileSystem.FileSystem> =>
  Layer.effect(
    GitHubLog,
    Effect.gen(function*() {
      const { githubApiUrl } = yield* Settings
      const { failed, failureOf, octokit } = yield* make(app, options)

      /** A request about one attempt. Its id stays text, because it may exceed 2^53. */
      const about = (attemptId: string, route: string, { retries }: { readonly retries?: number } = {}) =>
        Effect.flatMap(octokit, (client) =>
          Effect.tryPromise({
            try: (signal) =>
              client.request(route, {
                delivery_id: attemptId,
                request: retries === undefined ? { signal } : { signal, retries }
              }),
            catch: (error) => isRefusal(error) ? error : failureOf(error)
          }))

      const page = ({ data }: { readonly data: unknown }) => {
        const attempts = attemptsOf(data)
        return attempts === undefined
          ? Effect.fail(failed(notTheApi(`${githubApiUrl} answers with another list`)))
          : Effect.succeed(attempts)
      }

      return GitHubLog.of({
        attempts: (which) => {
          const parameters = { per_page: 100, ...(which === "failures" ? { status: "failure" as const } : {}) }
          const pages = Effect.map(octokit, ({ paginate }) => paginate.iterator("GET /app/hook/deliveries", parameters))
          return Stream.unwrap(Effect.map(pages, (iterable) => Stream.fromAsyncIterable(iterable, failureOf))).pipe(
            Stream.mapEffect(page)
          )
        },
        hookIdOf: (attemptId) =>
          about(attemptId, "GET /app/hook/deliveries/{delivery_id}").pipe(
            Effect.map(({ data }) => hookIdIn(data)),
            Effect.catchIf(isRefusal, (error) => error.status === 404 ? Effect.undefined : Effect.fail(failed(error)))
          ),
        redeliver: (attemptId) =>
          about(attemptId, "POST /app/hook/deliveries/{delivery_id}/attempts", { retries: 0 }).pipe(
            Effect.as("accepted" as const),
            Effect.catchIf(isRefusal, (error) => Effect.succeed({ refused: said(error) }))
          )
      })
    })
  )
