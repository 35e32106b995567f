/** When a dynamic backend leaves. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** On the monotonic clock, and as people are told (Unix time in milliseconds); undefined: never. */
export type Expiry = { readonly endsAt: number; readonly expiresAt: number } | undefined

/** Milliseconds on a clock that never steps. */
export const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** The end of a time that begins now. */
export const expiryAfter = (ttl: Duration.Duration | undefined, clock: Clock.Clock): Expiry => {
  if (ttl === undefined) return undefined
  const millis = Duration.toMillis(ttl)
  return { endsAt: monotonic(clock) + millis, expiresAt: clock.currentTimeMillisUnsafe() + millis }
}

/** As it was said first, unless a clock has been set since. */
export const shownExpiry = (expiry: Expiry, clock: Clock.Clock): number | undefined => {
  if (expiry === undefined) return undefined
  const expiresAt = clock.currentTimeMillisUnsafe() + Math.max(0, expiry.endsAt - monotonic(clock))
  return Math.abs(expiresAt - expiry.expiresAt) < 1_000 ? expiry.expiresAt : expiresAt
}

/**
 * Removes those whose time is over, and waits until the next one's is, or until `changed` opens. It looks at an end at the moment
 * of removal, so a renewal in the last millisecond counts.
 */
export const expireNext = <Entry extends { readonly expiry: Expiry }>(
  entries: Iterable<Entry>,
  clock: Clock.Clock,
  changed: Latch.Latch,
  expired: (entry: Entry) => void
): Effect.Effect<unknown> =>
  Effect.suspend(() => {
    const until = monotonic(clock)
    let next = Infinity
    for (const entry of entries) {
      if (entry.expiry === undefined) continue
      if (entry.expiry.endsAt <= until) expired(entry)
      else next = Math.min(next, entry.expiry.endsAt)
    }
    Latch.closeUnsafe(changed)
    return next === Infinity ? changed.await : Effect.timeoutOption(changed.await, next - until)
  })
