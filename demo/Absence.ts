/** Deliveries that fail at GitHub, because sprayproxy is not there, and come when it is. */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { join } from "node:path"
import { startGitHub } from "../test/support/github/StandIn.ts"
import { recoveredChecks } from "./Checks.ts"
import * as GitHub from "./GitHub.ts"
import { Journal } from "./Journal.ts"
import { isDone } from "./Row.ts"
import type { SampleBackend } from "./SampleBackend.ts"
import { Screen } from "./Screen.ts"
import { startSprayproxy } from "./Sprayproxy.ts"
import { header, paint } from "./Table.ts"

/** Milliseconds ago: sprayproxy leaves a delivery alone that may still be under way. */
const failedBefore = 600_000

/** `nobody` is an address at which no server is. */
export const absence = Effect.fnUntraced(function*(
  backends: ReadonlyArray<SampleBackend>,
  { directory, nobody, store }: { readonly directory: string; readonly nobody: string; readonly store: string }
) {
  const journal = yield* Journal
  const screen = yield* Screen
  const fileSystem = yield* FileSystem.FileSystem
  const { app, url } = yield* startGitHub()
  const keyFile = join(directory, "github-private-key.pem")
  yield* fileSystem.writeFileString(keyFile, app.privateKey())
  const deliveries = GitHub.missed(backends.length)

  yield* screen.print(
    `\n${paint("bold", "With GitHub's log")}: sprayproxy was down ten minutes ago, and deliveries failed at GitHub`
  )
  app.hookUrl = `${nobody}/proxy`
  yield* Effect.forEach(
    deliveries,
    (delivery) => Effect.promise(() => app.deliver(delivery, { at: Date.now() - failedBefore }))
  )
  const server = yield* startSprayproxy(backends.map(({ url: to }) => to), [
    `--store=${store}`,
    `--github-app-id=${app.identity.appId}`,
    `--github-private-key-file=${keyFile}`,
    `--github-api-url=${url}`,
    "--recovery-interval=1s",
    "--recovery-pace=0s"
  ])
  app.hookUrl = `${server.url}/proxy`
  yield* screen.print("It starts again, with --github-app-id and --github-private-key-file\n")

  const recover = ["recover", "--since", "1h"]
  yield* screen.print(`$ sprayproxy ${recover.join(" ")} --dry-run\n${yield* server.ask(...recover, "--dry-run")}`)
  yield* screen.print(`$ sprayproxy ${recover.join(" ")}\n\n${header("ready", "slow", "ready")}`)
  yield* Effect.forEach(deliveries, journal.sent)
  const output = yield* server.ask(...recover)
  yield* Effect.promise(() => app.quiet())
  for (const delivery of deliveries) {
    const answer = app.log.all.find((attempt) => attempt.redelivery && attempt.delivery.guid === delivery.guid)
    yield* journal.answered(delivery, { status: answer?.statusCode ?? 0, text: answer?.response?.payload ?? "" })
  }
  yield* Effect.forEach(deliveries, ({ guid }) => journal.until(guid, isDone)).pipe(Effect.timeoutOption("10 seconds"))
  yield* screen.print(`\n${output.trim().split("\n").at(-1)}`)
  const { guid } = deliveries[0]!
  const story = (yield* server.ask("deliveries", "show", guid)).split("\n").find((line) => line.startsWith("recovery"))
  yield* screen.print(`\n$ sprayproxy deliveries show ${guid} | grep recovery\n${story ?? ""}`)

  yield* server.stop
  const missed = (yield* journal.rows).filter((row) => deliveries.some((delivery) => delivery.guid === row.guid))
  return recoveredChecks(missed, backends.map(({ name }) => name), app.askedFor)
}, Effect.scoped)
