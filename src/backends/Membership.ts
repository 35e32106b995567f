/** Which dynamic backends there are beyond this process. In direct mode there is nothing beyond it. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Backend } from "../domain/Backend.ts"

/** A dynamic backend as all replicas share it. Times are Unix times in milliseconds. */
export interface SharedBackend {
  readonly key: string
  readonly url: string
  readonly registeredAt: number
  readonly expiresAt: number | undefined
  /** Milliseconds that it has left; undefined: it never ends. */
  readonly expiresIn: number | undefined
}

export interface Membership {
  /**
   * `limit`: there are as many as the settings allow. `unshared`: nobody else knows of it, and `takesRoom`, which is asked
   * then, has found some. `refused`: the store would never take it.
   */
  readonly put: (
    backend: Backend,
    ttl: Duration.Duration | undefined,
    takesRoom: () => boolean
  ) => Effect.Effect<"added" | "renewed" | "limit" | "refused" | "unshared">
  /** Whether it was there; undefined: nobody else knows. `isHere`: whether there is something to remove in this process. */
  readonly remove: (key: string, isHere: boolean) => Effect.Effect<boolean | undefined>
  /**
   * Calls `hold` with what all replicas share, once before it returns unless that takes too long, and then each second. Those
   * that are unsettled are to be left as they are.
   */
  readonly follow: (
    hold: (shared: ReadonlyArray<SharedBackend>, isUnsettled: (key: string) => boolean) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Whether `hold` has been called, or never will be. */
  readonly isKnown: () => boolean
}

/** Nothing is shared, unless a layer says otherwise. */
export const BackendMembership = Context.Reference<Membership>("sprayproxy/backends/Membership/BackendMembership", {
  defaultValue: () => ({
    put: (_backend, _ttl, takesRoom) => Effect.sync(() => takesRoom() ? "unshared" : "limit"),
    remove: () => Effect.as(Effect.void, undefined),
    follow: () => Effect.void,
    isKnown: () => true
  })
})
