import * as DateTime from "effect/DateTime"

/** Unix milliseconds as RFC 3339 in UTC. */
export const isoTime = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))
