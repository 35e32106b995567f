import * as Effect from "effect/Effect"

/**
 * For work that is repeated in rounds: a failure or a defect is reported, and ends only this round. An error that is
 * reported elsewhere is marked with `ErrorReporter.ignore`.
 */
export const contained = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  self.pipe(Effect.withErrorReporting, Effect.ignoreCause)
