/** The metrics of recovery. They are there only if it is on. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Names from "../observability/metrics/Names.ts"
import { type Recorder, recordOf, Series } from "../observability/metrics/Series.ts"
import { type GitHubFailure, gitHubFailures } from "./GitHubLog.ts"

export class RecoveryMetrics extends Context.Service<RecoveryMetrics, {
  /** A request to GitHub's API has failed, and is not made again. */
  readonly gitHubFailed: (kind: GitHubFailure) => void
  /** The number of requests that GitHub still takes in this hour, from the head of an answer. */
  readonly rateLimitLeft: (count: number) => void
}>()("sprayproxy/recovery/RecoveryMetrics") {
  static readonly layer = Layer.effect(
    RecoveryMetrics,
    Effect.gen(function*() {
      const series = yield* Series.make
      const failures = recordOf(gitHubFailures, (kind) => series.counter(Names.githubErrors, { kind }))
      let left: Recorder | undefined
      return RecoveryMetrics.of({
        gitHubFailed: (kind) => failures[kind](1),
        rateLimitLeft: (count) => {
          left ??= series.gauge(Names.githubRateLimitRemaining)
          left(count)
        }
      })
    })
  )
}
