/** GitHub's log as the program reads it, from a server that stands in for GitHub. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import type { LogEntry } from "../../../src/domain/LogEntry.ts"
import * as UnexpectedFailures from "../../../src/observability/UnexpectedFailures.ts"
import { Log } from "../../../src/observability/logs/Logging.ts"
import { GitHubLog } from "../../../src/recovery/GitHubLog.ts"
import { RecoveryMetrics } from "../../../src/recovery/RecoveryMetrics.ts"
import { layerFrom } from "../../../src/recovery/github/OctokitLog.ts"
import { Settings } from "../../../src/settings/Settings.ts"
import type { Environment } from "../../../src/settings/Variables.ts"
import { listen } from "../../support/Backend.ts"
import { type Files, filesInMemory } from "../../support/FilesInMemory.ts"
import { App } from "../../support/github/App.ts"
import { type StandInOptions, startGitHub } from "../../support/github/StandIn.ts"

export const keyFile = "/run/github.pem"

export interface LogOptions {
  readonly url: string
  readonly app: App
  readonly appId?: number
  readonly env?: Environment
  readonly files?: Files
  /** Milliseconds between two requests for redelivery. */
  readonly pace?: number
}

/** The log. The App's key is in its file, unless there are other files. Failed reads are made again at once. */
export const openLog = Effect.fnUntraced(function*(
  { app, appId, env = {}, files = new Map([[keyFile, app.privateKey()]]), pace = 0, url }: LogOptions
) {
  const settings = Settings.layerFrom({ githubApiUrl: url, recoveryPace: Duration.millis(pace) })
  const entries: Array<LogEntry> = []
  // Without Effect's logger, through which the test clock complains when the machine is slow.
  const logs = Layer.succeed(Log, {
    write: (level, message, fields) => void entries.push({ level, message, fields: { ...fields } })
  })
  const context = yield* Layer.build(
    layerFrom({ id: appId ?? Number(app.identity.appId), keyFile }, { env, pause: 0 }).pipe(
      Layer.provide([filesInMemory(files), settings, RecoveryMetrics.layer]),
      Layer.provideMerge(UnexpectedFailures.layer),
      Layer.provideMerge(logs)
    )
  )
  const github = Context.get(context, GitHubLog)
  return {
    github,
    entries,
    files,
    /** All of the log, in pages. */
    pages: Stream.runCollect(github.attempts("all")),
    failure: Effect.flip(Stream.runCollect(github.attempts("all")))
  }
})

/** The log of an App that has a webhook. */
export const openStandIn = Effect.fnUntraced(function*(
  { files, pace, ...options }: StandInOptions & Pick<LogOptions, "pace" | "files"> = {}
) {
  const { app, url } = yield* startGitHub(options)
  app.hookUrl = "http://127.0.0.1:9/proxy"
  const log = yield* openLog({
    app,
    url,
    ...(pace === undefined ? {} : { pace }),
    ...(files === undefined ? {} : { files })
  })
  return { app, url, ...log }
})

/** Answers in GitHub's place, and keeps the requests. */
export const startScripted = (
  answer: (response: Http.ServerResponse, request: Http.IncomingMessage, count: number) => void
): Effect.Effect<
  { readonly url: string; readonly requests: ReadonlyArray<Http.IncomingMessage> },
  never,
  Scope.Scope
> =>
  Effect.suspend(() => {
    const requests: Array<Http.IncomingMessage> = []
    const server = Http.createServer((request, response) => {
      request.resume()
      requests.push(request)
      answer(response, request, requests.length)
    })
    return Effect.map(listen(server), (port) => ({ url: `http://127.0.0.1:${port}`, requests }))
  })

/** The log from somebody who answers in GitHub's place. */
export const openScripted = Effect.fnUntraced(function*(answer: Parameters<typeof startScripted>[0]) {
  const server = yield* startScripted(answer)
  return { ...server, ...yield* openLog({ app: new App(), url: server.url }) }
})

export const json = (response: Http.ServerResponse, body: unknown, headers: Http.OutgoingHttpHeaders = {}) =>
  void response.writeHead(200, { "Content-Type": "application/json; charset=utf-8", ...headers }).end(
    JSON.stringify(body)
  )
