import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type { LogFields } from "../../domain/LogEntry.ts"
import { Log } from "./Logging.ts"

/**
 * Logs refused requests: ten lines a second for each reason, then a count when the second is over. Anybody can cause a
 * refusal. A line for each would let them fill the disk and push out the lines of deliveries.
 */
export class RefusalLog extends Context.Service<RefusalLog, {
  /** `reason` is one of a small closed set, never a sender's text, because each reason has its own window. */
  readonly refused: (reason: string, fields?: LogFields) => void
  /** Logs the counts so far. */
  readonly report: Effect.Effect<void>
}>()("sprayproxy/observability/logs/RefusalLog") {
  static readonly layer: Layer.Layer<RefusalLog, never, Log> = Layer.effect(
    RefusalLog,
    Effect.gen(function*() {
      const log = yield* Log
      const clock = yield* Clock.Clock
      const run = yield* FiberSet.makeRuntime<never, void, never>()
      const windows = new Map<string, Window>()

      const report = (reason: string, window: Window) => {
        if (window.unlogged === 0) return
        log.write("warn", "refusals not logged", { reason, count: window.unlogged })
        window.unlogged = 0
      }
      const reportAll = Effect.sync(() => windows.forEach((window, reason) => report(reason, window)))
      yield* Effect.addFinalizer(() => reportAll)

      return RefusalLog.of({
        report: reportAll,
        refused: (reason, fields) => {
          const now = clock.currentTimeMillisUnsafe()
          let window = windows.get(reason)
          // A clock that was set back starts a new window too. Otherwise the old window would last until the clock has
          // caught up.
          if (window === undefined || now >= window.end || now < window.end - WINDOW_MILLIS) {
            if (window !== undefined) report(reason, window)
            window = { end: now + WINDOW_MILLIS, logged: 0, unlogged: 0 }
            windows.set(reason, window)
          }
          if (window.logged < LINES_A_WINDOW) {
            window.logged++
            log.write("warn", "refused", { reason, ...fields })
            return
          }
          const full = window
          if (full.unlogged++ === 0) run(Effect.delay(Effect.sync(() => report(reason, full)), full.end - now))
        }
      })
    })
  )
}

const WINDOW_MILLIS = 1000
const LINES_A_WINDOW = 10

interface Window {
  readonly end: number
  logged: number
  unlogged: number
}
