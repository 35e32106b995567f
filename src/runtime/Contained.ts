import * as Effect from "effect/Effect"

/**
 * For what is done again and again: a failure or a defect is reported, and waits for the next round. One that is told
 * elsewhere says so by `ErrorReporter.ignore`.
 */
export const contained = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  self.pipe(Effect.withErrorReporting, Effect.ignoreCause)
