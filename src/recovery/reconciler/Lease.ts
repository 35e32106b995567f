/**
 * The reconciler's lease: of all replicas one looks and asks.
 *
 * **Details**
 *
 * - The lease is in the store, by the store's clock, and is renewed while its holder works. A process that dies loses it
 *   in time, and another takes over.
 * - Whoever can't renew it in time stops, because another may have it by then. That is measured here, by a clock that
 *   never steps, from before the lease was asked for.
 * - A process that is draining gives it back at once: it should not ask for deliveries that it will not take.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Readiness } from "../../http/Readiness.ts"
import { contained } from "../../runtime/Contained.ts"
import { Timers } from "../../runtime/Timers.ts"
import { RecoveryStore } from "../../store/RecoveryStore.ts"

/** Does the work whenever this process has the lease, and interrupts it as soon as it has not. */
export const whileLeading = Effect.fnUntraced(function*(
  work: Effect.Effect<never>,
  leads: (isLeading: boolean) => void
) {
  const store = yield* RecoveryStore
  const readiness = yield* Readiness
  const timers = yield* Timers

  /** The end of the lease, on this process's clock. Undefined: another has it, or nobody knows. */
  const take = Effect.suspend(() => {
    const until = timers.now() + leaseMillis
    return Effect.map(
      Effect.timeoutOption(Effect.option(store.lead(leaseMillis)), longestAnswer),
      (answer) => Option.match(Option.flatten(answer), { onNone: () => undefined, onSome: (has) => has && until })
    )
  })

  /** Ends when the lease is lost. */
  const keep = Effect.fnUntraced(function*(first: number) {
    let until = first
    let renewAt = first - leaseMillis + renewMillis
    while (!readiness.isDraining() && timers.now() < until) {
      yield* Effect.sleep("1 second")
      if (timers.now() < renewAt) continue
      const taken = yield* take
      if (taken === false) return
      if (taken !== undefined) {
        until = taken
        renewAt = taken - leaseMillis + renewMillis
      }
    }
  })

  // In a fiber of its own: in one that is interrupted no time-out could interrupt anything.
  const resign = Effect.ignore(Effect.timeout(store.resign, longestAnswer)).pipe(
    Effect.forkDetach,
    Effect.flatMap(Fiber.join)
  )

  const lead = Effect.fnUntraced(function*(until: number) {
    leads(true)
    yield* Effect.raceFirst(work, keep(until)).pipe(
      Effect.ensuring(Effect.andThen(Effect.sync(() => leads(false)), resign))
    )
  })

  const round = Effect.gen(function*() {
    const until = readiness.isDraining() ? false : yield* take
    if (until === false || until === undefined) yield* Effect.sleep(renewMillis)
    else yield* lead(until)
  })

  return yield* Effect.forever(contained(round))
})

/** A process that dies has a successor after this and one more try. */
const leaseMillis = 45_000
const renewMillis = 15_000
const longestAnswer = "5 seconds"
