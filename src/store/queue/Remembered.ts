/**
 * The port by which the queue asks, as it writes deliveries, whether they were missing or went without the store.
 * Without recovery there is none, and nothing of this is asked.
 */
import type * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import type { BulkRow } from "../Dialect.ts"
import type { NewDelivery } from "../contract/Queue.ts"
import type { FallbackEnd } from "../contract/Recovery.ts"
import type { StoreUnavailable } from "../contract/Unavailable.ts"

/** What is remembered of a delivery that arrives. */
export interface Remembered {
  /** It is taken for GitHub's answer to a request of ours, and only fills gaps. */
  readonly isAnswer: boolean
  /** It went without the store, with these ends by the backend's key. */
  readonly ends: ReadonlyMap<string, FallbackEnd> | undefined
}

export interface Memory {
  /** A condition on a delivery: it has to be looked at. */
  readonly isRemembered: (
    i: { readonly guid: Fragment; readonly hook_id: Fragment; readonly body_hash: Fragment },
    now: Fragment
  ) => Fragment
  /** By the deliveries' own ids. Those of which nothing is known are left out. In a transaction. */
  readonly look: (
    deliveries: ReadonlyArray<NewDelivery>
  ) => Effect.Effect<ReadonlyMap<string, Remembered>, SqlError | StoreUnavailable>
  /** These are written. `ended` has rows that were written as pending and have had their end before, with its `state`. */
  readonly arrived: (
    deliveries: ReadonlyArray<NewDelivery>,
    ended: ReadonlyArray<BulkRow>
  ) => Effect.Effect<void, SqlError>
}
