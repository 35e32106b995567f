/**
 * Timers for code that runs in callbacks, behind a service so that tests drive them with the `TestClock`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { performance } from "node:perf_hooks"

/** Cancels a timer. Does nothing if it has fired or was cancelled. */
export type CancelTimer = () => void

export class Timers extends Context.Service<Timers, {
  /** Milliseconds on a clock that never steps. */
  readonly now: () => number
  /** Calls `f` once after `delay` milliseconds, unless cancelled. */
  readonly after: (delay: number, f: () => void) => CancelTimer
}>()("sprayproxy/runtime/Timers") {
  static readonly layer = Layer.succeed(
    Timers,
    Timers.of({
      now: () => performance.now(),
      after: (delay, f) => {
        const timer = setTimeout(f, delay)
        return () => clearTimeout(timer)
      }
    })
  )

  /** Timers on the `Clock` of the fiber that builds the layer. */
  static readonly layerClock = Layer.effect(
    Timers,
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const run = Effect.runForkWith(yield* Effect.context<never>())
      return Timers.of({
        now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
        after: (delay, f) => {
          // Like `setTimeout`, never before `after` has returned.
          const due = delay > 0 ? Effect.sleep(delay) : Effect.yieldNow
          const fiber = run(Effect.andThen(due, Effect.sync(f)))
          return () => fiber.interruptUnsafe()
        }
      })
    })
  )
}
