/**
 * The port through which the registry shares dynamic backends with other replicas and with later runs of this one. In
 * direct mode nothing is shared.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Backend } from "../domain/Backend.ts"
import type { BackendFilter } from "../domain/BackendFilter.ts"

/** A dynamic backend as all replicas share it. Times are Unix times in milliseconds. */
export interface SharedBackend {
  readonly key: string
  readonly url: string
  readonly registeredAt: number
  readonly expiresAt: number | undefined
  /** Milliseconds until it expires. Undefined: never. */
  readonly expiresIn: number | undefined
  /** As it was asked for. Each replica keeps it within its own bound. */
  readonly filter: BackendFilter | undefined
  /** Milliseconds since the first failed attempt after which no delivery has arrived. Undefined: the last one arrived. */
  readonly failingFor: number | undefined
}

/** What a registration asks for. */
export interface Terms {
  /** Undefined: for ever. */
  readonly ttl: Duration.Duration | undefined
  /** Undefined: everything. */
  readonly filter: BackendFilter | undefined
}

/** Shares the dynamic backends of the registry. In durable mode the store does it. */
export interface Membership {
  /**
   * Shares a backend. `added`, `renewed`: it is shared now. `limit`: there are as many as the settings allow.
   * `unshared`: only this process has it; `takesRoom` was asked, and found some. `refused`: the store would never take
   * it.
   */
  readonly put: (
    backend: Backend,
    terms: Terms,
    takesRoom: () => boolean
  ) => Effect.Effect<"added" | "renewed" | "limit" | "refused" | "unshared">
  /**
   * Ends the sharing of a backend. Says whether it was shared; undefined: nobody else knows of it. `isHere` says
   * whether this process has it.
   */
  readonly remove: (key: string, isHere: boolean) => Effect.Effect<boolean | undefined>
  /** Shares that an attempt on a backend failed after one had arrived, or that one arrived after some had failed. */
  readonly noteFailing: (key: string, isFailing: boolean) => void
  /**
   * Ends the sharing of a backend if no delivery has arrived there from anybody for so many milliseconds. Undefined: nobody
   * else knows of it. False: not now.
   */
  readonly removeDead: (key: string, millis: number) => Effect.Effect<boolean | undefined>
  /**
   * Calls `hold` with the backends that all replicas share: once before it returns, unless that takes too long, and
   * then each second. A backend is unsettled if it is being changed here, or has a change that is not shared yet. `hold`
   * must leave such a backend as it is. Of a backend that `isNoting`, `failingFor` is out of date.
   */
  readonly follow: (
    hold: (
      shared: ReadonlyArray<SharedBackend>,
      isUnsettled: (key: string) => boolean,
      isNoting: (key: string) => boolean
    ) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Whether `hold` has been called, or never will be. */
  readonly isKnown: () => boolean
}

/** By default nothing is shared. */
export const BackendMembership = Context.Reference<Membership>("sprayproxy/backends/Membership/BackendMembership", {
  defaultValue: () => ({
    put: (_backend, _terms, takesRoom) => Effect.sync(() => takesRoom() ? "unshared" : "limit"),
    remove: () => Effect.as(Effect.void, undefined),
    noteFailing: () => {},
    removeDead: () => Effect.as(Effect.void, undefined),
    follow: () => Effect.void,
    isKnown: () => true
  })
})
