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
  const now = monotonic(clock)
  if (entry.failingSince === undefined) {
    entry.failingSince = now
    return observer.turned(entry, true)
  }
  if (now - entry.failingSince >= deadAfter) observer.dead(entry)
}
