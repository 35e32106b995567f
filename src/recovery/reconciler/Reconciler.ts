/**
 * The reconciler: it looks for deliveries that are missing, and asks GitHub for them. Of all replicas one is it.
 *
 * **Details**
 *
 * - A full pass is made at the beginning and every 15 minutes, and a pass over failures each interval in between. A pass
 *   that fails is made again. After a full one that has failed comes one over failures: it is shorter, and a page that
 *   GitHub never answers need not be in it.
 * - The first pass finds what failed a moment before, when nobody was there. It is too early for that, and only a full
 *   pass shows it. So a second one comes soon.
 * - Passes and requests go on beside each other: a long pass holds no request up.
 * - Every replica publishes what the store knows, so that it is known whoever leads.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { contained } from "../../runtime/Contained.ts"
import { Timers } from "../../runtime/Timers.ts"
import { Settings } from "../../settings/Settings.ts"
import { RecoveryStore } from "../../store/RecoveryStore.ts"
import { GitHubUnavailable } from "../GitHubLog.ts"
import * as Looking from "../Looking.ts"
import * as Asking from "./Asking.ts"
import { whileLeading } from "./Lease.ts"
import * as Pass from "./Pass.ts"
import { ReconcilerMetrics } from "./ReconcilerMetrics.ts"
import { Standing } from "./Standing.ts"

export class Reconciler extends Context.Service<Reconciler, {
  readonly standing: Pick<Standing, "failing" | "isHeldBack" | "isLeading">
}>()("sprayproxy/recovery/reconciler/Reconciler") {
  static readonly layer = Layer.effect(
    Reconciler,
    Effect.gen(function*() {
      const store = yield* RecoveryStore
      const metrics = yield* ReconcilerMetrics
      const { recoveryInterval } = yield* Settings
      const timers = yield* Timers
      const clock = yield* Clock.Clock
      const standing = yield* Standing.make
      const looking = yield* Looking.make
      const pass = yield* Pass.make(looking)
      const ask = yield* Asking.make(standing, looking.window)

      const passes = Effect.suspend(() => {
        let fullAt = -Infinity
        let isFirst = true
        let hasFullFailed = false
        const round = Effect.suspend(() => {
          const at = timers.now()
          const kind = at - fullAt >= fullInterval && !hasFullFailed ? "full" : "failures"
          hasFullFailed = false
          return Effect.match(pass(kind), {
            onSuccess: ({ early }) => {
              if (kind === "full") {
                fullAt = isFirst && early > 0 ? at - fullInterval + looking.settling : at
                isFirst = false
              }
              standing.passed(kind)
            },
            onFailure: (error) => {
              hasFullFailed = kind === "full"
              standing.failed(kind, {
                kind: error instanceof GitHubUnavailable ? error.kind : "store",
                reason: error.reason
              })
            }
          })
        })
        return Effect.forever(Effect.andThen(contained(round), Effect.sleep(recoveryInterval)))
      })

      let recovered: number | undefined
      const publish = Effect.gen(function*() {
        const { asked, oldestFailedAt, recovered: now, wanted } = yield* store.recoveryCounts()
        const { failures, full } = yield* store.progress
        const age = oldestFailedAt === undefined ? 0 : clock.currentTimeMillisUnsafe() - oldestFailedAt
        metrics.missing(wanted + asked, Math.max(0, age) / 1_000)
        if (failures !== undefined) metrics.passed("failures", failures.completedAt / 1_000)
        if (full !== undefined) metrics.passed("full", full.completedAt / 1_000)
        // Pruning makes the count smaller.
        if (standing.isLeading) metrics.recovered(Math.max(0, now - (recovered ?? now)))
        recovered = now
      })

      const work = Effect.andThen(
        Effect.all([passes, ask], { concurrency: "unbounded", discard: true }),
        Effect.never
      )
      yield* Effect.forkScoped(whileLeading(work, (isLeading) => standing.leads(isLeading)))
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(contained(publish), Effect.sleep(publishInterval))))
      return Reconciler.of({ standing })
    })
  )
}

/** Milliseconds. */
const fullInterval = 900_000

const publishInterval = "15 seconds"
