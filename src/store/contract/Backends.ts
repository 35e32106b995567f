/** What the store promises about dynamic backends. */
import type * as Effect from "effect/Effect"
import type { StoreUnavailable } from "./Unavailable.ts"

/** A dynamic backend, as it is kept. */
export interface StoredBackend {
  readonly key: string
  readonly url: string
  readonly registeredAt: number
  readonly expiresAt: number | undefined
  /** Milliseconds that it has left; undefined: it never ends. */
  readonly expiresIn: number | undefined
}

export interface BackendRecords {
  /** Those whose time is not over. */
  readonly backends: Effect.Effect<ReadonlyArray<StoredBackend>, StoreUnavailable>
  /**
   * Adds it, or changes its url and expiry. `"limit"`: there are as many as `limit` already, and it is not among them.
   * `"superseded"`: it was decided some time ago (`age`, milliseconds), and somebody has changed the backend since.
   */
  readonly putBackend: (
    backend: {
      readonly key: string
      readonly url: string
      /** Milliseconds from now on; undefined: without end. */
      readonly ttl: number | undefined
      readonly age?: number
    },
    limit: number
  ) => Effect.Effect<"added" | "renewed" | "limit" | "superseded", StoreUnavailable>
  /**
   * False: it was not there. A first lot of its pending rows becomes `cancelled`; the others are `clearBackends`'. With an
   * `age`, as for `putBackend`, it is remembered although it was not there, and false if somebody has changed it since.
   */
  readonly deleteBackend: (key: string, age?: number) => Effect.Effect<boolean, StoreUnavailable>
  /**
   * Cancels what is pending for backends that were deleted or whose time is over, late rows of a minute included. Not that
   * of `others`, which are backends by another right.
   */
  readonly clearBackends: (others: ReadonlySet<string>) => Effect.Effect<void, StoreUnavailable>
}
