/** The ways in which a store fails. */
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Schema from "effect/Schema"

/**
 * Whose fault a failure is.
 *
 * - `away`: the store's. It can't be reached, or takes nothing now.
 * - `content`: that of the content to be written, which would be refused each time. The store is well.
 * - `question`: that of the question, which took too long or too much. The store is well.
 */
const storeFaults = ["away", "content", "question"] as const
export type StoreFault = typeof storeFaults[number]

/** The store did not do an operation. `reason` names no address and no secret. */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  reason: Schema.String,
  fault: Schema.Literals(storeFaults).pipe(Schema.withConstructorDefault(Effect.succeed("away")))
}) {
  /** It is logged where it happens. */
  override readonly [ErrorReporter.ignore] = true
  override get message() {
    return `the store did not take it: ${this.reason}`
  }
}

/** The store can't be used at all: it is not ours, locked, corrupt, too new or unsafe. This ends the start. */
export class StoreUnusable extends Schema.TaggedError<StoreUnusable>()("StoreUnusable", {
  reason: Schema.String
}) {
  override get message() {
    return `the store can't be used: ${this.reason}`
  }
}
