/** The part of the store's contract that is about dynamic backends. */
import type * as Effect from "effect/Effect"
import type { BackendFilter } from "../../domain/BackendFilter.ts"
import type { StoreUnavailable } from "./Unavailable.ts"

/** A dynamic backend, as the store keeps it. */
export interface StoredBackend {
  readonly key: string
  readonly url: string
  readonly registeredAt: number
  readonly expiresAt: number | undefined
  /** Milliseconds until it expires. Undefined: never. */
  readonly expiresIn: number | undefined
  readonly filter: BackendFilter | undefined
  /** Milliseconds since `noteFailing`. Undefined: it is not failing. */
  readonly failingFor: number | undefined
}

/** The operations on dynamic backends. */
export interface BackendRecords {
  /** The backends whose time is not over. */
  readonly backends: Effect.Effect<ReadonlyArray<StoredBackend>, StoreUnavailable>
  /**
   * Adds the backend, or changes its URL, expiry and filter. It is not failing then. `"limit"`: there are `limit` backends already, and it is not among
   * them. `"superseded"`: the change was decided some time ago (`age`, in milliseconds), and somebody has changed the
   * backend since.
   */
  readonly putBackend: (
    backend: {
      readonly key: string
      readonly url: string
      /** Milliseconds from now. Undefined: it never expires. */
      readonly ttl: number | undefined
      /** None: everything. */
      readonly filter?: BackendFilter | undefined
      readonly age?: number
    },
    limit: number
  ) => Effect.Effect<"added" | "renewed" | "limit" | "superseded", StoreUnavailable>
  /**
   * Removes the backend. False: it was not there. A first lot of its pending rows becomes `cancelled`, and
   * `clearBackends` does the rest. With an `age`, as for `putBackend`, the removal is remembered even if the backend
   * was not there, and the result is false if somebody has changed the backend since.
   */
  readonly deleteBackend: (key: string, age?: number) => Effect.Effect<boolean, StoreUnavailable>
  /** The backend is failing from now on, or since it was noted first; or it is not. */
  readonly noteFailing: (key: string, isFailing: boolean) => Effect.Effect<void, StoreUnavailable>
  /** Removes the backend, as `deleteBackend` does, if it has been failing for so many milliseconds. False: it has not. */
  readonly deleteDeadBackend: (key: string, millis: number) => Effect.Effect<boolean, StoreUnavailable>
  /**
   * Cancels the pending rows of backends that were deleted or whose time is over, also rows that come up to a minute
   * late. It leaves out `others`, which are backends for another reason.
   */
  readonly clearBackends: (others: ReadonlySet<string>) => Effect.Effect<void, StoreUnavailable>
}
