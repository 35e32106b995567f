/** How a store fails. */
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Schema from "effect/Schema"

/**
 * What a failure is the fault of.
 *
 * - `away`: the store. It can't be reached, or takes nothing now.
 * - `content`: what it was to take, which would be refused each time. The store is well.
 * - `question`: what it was asked, which took too long or too much. Nothing else is.
 */
const storeFaults = ["away", "content", "question"] as const
export type StoreFault = typeof storeFaults[number]

/** The store did not do what it was told. `reason` names no address and no secret. */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  reason: Schema.String,
  fault: Schema.Literals(storeFaults).pipe(Schema.withConstructorDefault(Effect.succeed("away")))
}) {
  /** It is told where it happens. */
  override readonly [ErrorReporter.ignore] = true
  override get message() {
    return `the store did not take it: ${this.reason}`
  }
}

/** The store can't be used at all: not ours, locked, corrupt, too new, unsafe. Ends the start. */
export class StoreUnusable extends Schema.TaggedError<StoreUnusable>()("StoreUnusable", {
  reason: Schema.String
}) {
  override get message() {
    return `the store can't be used: ${this.reason}`
  }
}
