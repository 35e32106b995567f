/** When a dynamic backend with a time to live leaves the registry. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/**
 * `endsAt` is a time of the monotonic clock, and decides. `expiresAt` is Unix time in milliseconds, for people.
 * Undefined: never.
 */
export type Expiry = { readonly endsAt: number; readonly expiresAt: number } | undefined

/** Milliseconds on a clock that never steps. */
export const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** The expiry of a time to live that begins now. */
export const expiryAfter = (ttl: Duration.Duration | undefined, clock: Clock.Clock): Expiry => {
  if (ttl === undefined) return undefined
  const millis = Duration.toMillis(ttl)
  return { endsAt: monotonic(clock) + millis, expiresAt: clock.currentTimeMillisUnsafe() + millis }
}

/** The Unix time that people are shown: the one that was said first, unless a clock has been set since. */
export const shownExpiry = (expiry: Expiry, clock: Clock.Clock): number | undefined => {
  if (expiry === undefined) return undefined
  const expiresAt = clock.currentTimeMillisUnsafe() + Math.max(0, expiry.endsAt - monotonic(clock))
  return Math.abs(expiresAt - expiry.expiresAt) < 1_000 ? expiry.expiresAt : expiresAt
}

/**
 * Removes the entries whose time is over. Then waits until the next entry's time is over, or until `changed` opens. An
 * entry's expiry is read at the moment of removal, so a renewal in the last millisecond counts.
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
