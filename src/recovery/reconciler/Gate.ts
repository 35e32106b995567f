/**
 * The gate of requests for redelivery. A front door that is broken, by a wrong secret or a route to nowhere, fails every
 * redelivery too. It must not be hammered, and the deliveries that wait must outlive it.
 *
 * **Details**
 *
 * - Any arrival opens the gate: a delivery that was asked for, or a new one. Both show that the front door works.
 * - Before the first arrival a handful of requests may go unanswered, and later a limited number.
 * - The gate closes when nothing at all has arrived for two minutes since a request. Then single probes go, after 1 min,
 *   2, 4, 8, and every 15.
 * - A probe does not count against its delivery. So a delivery that is missing because of the front door is not given up
 *   because of it.
 *
 * **Gotchas**
 *
 * A delivery that never arrives although the front door works keeps the gate open as long as others come, and is given
 * up after its requests. In a quiet hour it closes the gate. Then others wait for their turn to be the probe.
 */

/** All times are milliseconds of a clock that never steps. */
export type Gate = Open | Closed

interface Open {
  readonly isOpen: true
  /** Requests since the last arrival. */
  readonly unanswered: number
  /** How many of them there may be. */
  readonly most: number
  /** When the first of them was made. */
  readonly since: number
}

interface Closed {
  readonly isOpen: false
  /** When the next probe may go. */
  readonly probeAt: number
  /** From that probe to the one after it. */
  readonly wait: number
}

/** The most requests before anything has ever arrived. */
const mostUnproven = 5

/** The most requests after an arrival and before the next. Redeliveries take seconds, and requests one second each. */
const mostProven = 100

/** Milliseconds in which something arrives that was asked for. */
const patience = 120_000

const firstWait = 60_000
const longestWait = 900_000

/** Nothing has arrived yet. */
export const unproven: Gate = { isOpen: true, unanswered: 0, most: mostUnproven, since: 0 }

/** Something has arrived. */
export const proven: Gate = { isOpen: true, unanswered: 0, most: mostProven, since: 0 }

/** Closes it if it is time. */
export const passed = (gate: Gate, now: number): Gate =>
  gate.isOpen && gate.unanswered > 0 && now - gate.since >= patience
    ? { isOpen: false, probeAt: now + firstWait, wait: 2 * firstWait }
    : gate

/** The next request is a `probe` if the gate is closed. */
export type Leave = "request" | "probe" | "wait"

export const leave = (gate: Gate, now: number): Leave =>
  gate.isOpen
    ? gate.unanswered < gate.most ? "request" : "wait"
    : now >= gate.probeAt
    ? "probe"
    : "wait"

/** A request goes out. */
export const asked = (gate: Gate, now: number): Gate =>
  gate.isOpen
    ? { ...gate, unanswered: gate.unanswered + 1, since: gate.unanswered === 0 ? now : gate.since }
    : { ...gate, probeAt: now + gate.wait, wait: Math.min(2 * gate.wait, longestWait) }
