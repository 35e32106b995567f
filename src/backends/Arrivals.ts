/**
 * Finds the dynamic backends to which deliveries were attempted and none has arrived for too long.
 *
 * **Details**
 *
 * Only a failed attempt can show that a backend is dead. One to which nothing was sent is left alone.
 */
import type * as Clock from "effect/Clock"
import type { Entry } from "./Entries.ts"
import { monotonic } from "./Expiry.ts"

/** Learns what attempts tell of a backend. */
export interface ArrivalsObserver {
  /** The first attempt failed after one had arrived, or one has arrived after some had failed. */
  readonly turned: (entry: Entry, isFailing: boolean) => void
  /** Nothing has arrived for too long. Told at each further failure. */
  readonly dead: (entry: Entry) => void
}

/** Notes the end of an attempt. `deadAfter` in milliseconds. */
export const note = (
  entry: Entry,
  hasArrived: boolean,
  deadAfter: number,
  clock: Clock.Clock,
  observer: ArrivalsObserver
): void => {
  if (hasArrived) {
    if (entry.failingSince === undefined) return
    entry.failingSince = undefined
    return observer.turned(entry, false)
  }
  if (entry.failingSince === undefined) {
    entry.failingSince = monotonic(clock)
    return observer.turned(entry, true)
  }
  if (isDead(entry, deadAfter, clock)) observer.dead(entry)
}

/** Whether nothing has arrived for so many milliseconds, as far as this process knows. */
export const isDead = ({ failingSince }: Entry, deadAfter: number, clock: Clock.Clock): boolean =>
  failingSince !== undefined && monotonic(clock) - failingSince >= deadAfter
