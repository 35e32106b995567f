/** `/recovery` on a real listener, above a recovery whose findings and counts the test decides. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as HttpRouter from "effect/http/HttpRouter"
import * as http from "node:http"
import { addNotFound, routerConfig } from "../../src/http/MethodRoutes.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import * as UnexpectedFailures from "../../src/observability/UnexpectedFailures.ts"
import { Log } from "../../src/observability/logs/Logging.ts"
import { RecoveryRoutes } from "../../src/operator/recovery/Routes.ts"
import { type LookFound, type LookQuestion, type LookReport, Recovery } from "../../src/recovery/Recovery.ts"
import type { RecoveryStatus } from "../../src/recovery/Recovery.ts"
import { Settings } from "../../src/settings/Settings.ts"
import type { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"

type Look = ReturnType<Recovery["Service"]["look"]>
type Found = LookFound["deliveries"][number]

/** The answers of recovery, and the questions that it was asked. */
export class RecoveryContents extends Context.Service<RecoveryContents, {
  readonly questions: Array<LookQuestion>
  readonly runs: Array<string | undefined>
  look: (question: LookQuestion) => Look
  /** One for each question. The last one stays. */
  statuses: Array<RecoveryStatus>
  failure: StoreUnavailable | undefined
}>()("sprayproxy/test/support/RecoveryServer/RecoveryContents") {}

export const failedAt = Date.UTC(2026, 0, 2, 3, 4, 5, 678)

export const status = (over: Partial<RecoveryStatus> = {}): RecoveryStatus => ({
  wanted: 0,
  asked: 0,
  recovered: 0,
  givenUp: 0,
  oldestFailedAt: undefined,
  lastRecoveredAt: undefined,
  startedAt: failedAt - 86_400_000,
  passes: { failures: undefined, full: undefined },
  reconciler: "pod-1",
  failing: undefined,
  heldBack: false,
  ...over
})

export const found = (n: number, over: Partial<Found> = {}): Found => ({
  finding: "missing",
  guid: `guid-${n}`,
  event: "push",
  action: undefined,
  failedAt: failedAt + n,
  statusCode: 502,
  fallback: false,
  asks: 0,
  ...over
})

export const report = (
  { dryRun, run, since }: LookQuestion,
  over: Partial<LookReport> = {}
): LookReport => ({
  kind: "report",
  run,
  dryRun,
  since,
  attempts: 0,
  failed: 0,
  held: 0,
  answered: 0,
  recovered: 0,
  missing: 0,
  early: 0,
  ...over
})

export const RecoveryServer = Layer.unwrap(Effect.sync(() => {
  const contents: RecoveryContents["Service"] = {
    questions: [],
    runs: [],
    look: (question) => Stream.succeed(report(question)),
    statuses: [status()],
    failure: undefined
  }
  const Scripted = Layer.mock(Recovery)({
    look: (question) => {
      contents.questions.push(question)
      return contents.look(question)
    },
    status: (run) =>
      Effect.suspend(() => {
        contents.runs.push(run)
        if (contents.failure !== undefined) return Effect.fail(contents.failure)
        return Effect.succeed(contents.statuses.length > 1 ? contents.statuses.shift()! : contents.statuses[0]!)
      })
  })
  return HttpRouter.serve(Layer.mergeAll(RecoveryRoutes, HttpRouter.use(addNotFound)), {
    disableLogger: true,
    disableListenLog: true,
    routerConfig
  }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => http.createServer(), { port: 0, host: "127.0.0.1" })),
    Layer.provide(Scripted),
    Layer.provideMerge(Readiness.layer),
    Layer.provideMerge(UnexpectedFailures.layer),
    Layer.provideMerge(Log.layerTest),
    Layer.provide(Settings.layerFrom({ insecureSkipWebhookVerify: true, webhookSecret: Option.none() })),
    Layer.merge(Layer.succeed(RecoveryContents, contents))
  )
}))
