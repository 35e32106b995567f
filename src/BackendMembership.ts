/**
 * Which dynamic backends there are beyond this process. In direct mode there is nothing beyond it.
 *
 * **Details**
 *
 * With a store, a change is written down before it holds, and what others have changed is seen within a second. While the
 * store is away, changes hold here, and are written when it is back: the last one for each backend.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Backend } from "./Backend.ts"
import { contained } from "./Defects.ts"
import { DeliveryStore, type StoredBackend } from "./DeliveryStore.ts"
import { Log } from "./Logging.ts"
import { Settings } from "./Settings.ts"

export interface Membership {
  /** `limit`: there are as many as the settings allow. `unshared`: nobody else knows of it. */
  readonly put: (
    backend: Backend,
    ttl: Duration.Duration | undefined
  ) => Effect.Effect<"added" | "renewed" | "limit" | "unshared">
  /** Whether it was there; undefined: nobody else knows. */
  readonly remove: (key: string) => Effect.Effect<boolean | undefined>
  /** Calls `hold` with what all replicas share, once before it returns unless that takes too long, and then each second. */
  readonly follow: (
    hold: (shared: ReadonlyArray<StoredBackend>) => Effect.Effect<void>
  ) => Effect.Effect<void, never, Scope.Scope>
}

/** Nothing is shared, unless a layer says otherwise. */
export const BackendMembership = Context.Reference<Membership>("sprayproxy/BackendMembership", {
  defaultValue: () => ({
    put: () => Effect.succeed("unshared"),
    remove: () => Effect.as(Effect.void, undefined),
    follow: () => Effect.void
  })
})

/** A change that the store has not taken yet. */
interface Change {
  readonly url: string
  /** Unix milliseconds. */
  readonly changedAt: number
  readonly expiresAt: number | undefined
  readonly isRemoval: boolean
}

/** What is shared is in the store. */
export const layerStore = Layer.effect(
  BackendMembership,
  Effect.gen(function*() {
    const store = yield* DeliveryStore
    const { backends, dynamicBackendLimit } = yield* Settings
    const statics = new Set(backends.map(({ key }) => key))
    const log = yield* Log
    const clock = yield* Clock.Clock
    const unwritten = new Map<string, Change>()
    /** How many changes were made here: what was read of the store before one is out of date. */
    let changes = 0

    const keep = (key: string, url: string, change: Pick<Change, "expiresAt" | "isRemoval">) => {
      unwritten.set(key, { url, changedAt: clock.currentTimeMillisUnsafe(), ...change })
      log.write("warn", "the store has not taken a change of the backends yet", { backend: url })
    }

    const writeOne = Effect.fnUntraced(function*(key: string, change: Change) {
      if (change.isRemoval) yield* store.deleteBackend(key)
      else {
        const ttl = change.expiresAt === undefined ? undefined : change.expiresAt - clock.currentTimeMillisUnsafe()
        if (ttl === undefined || ttl > 0) {
          const put = yield* store.putBackend({ key, url: change.url, ttl }, dynamicBackendLimit)
          if (put === "limit") {
            log.write("error", "the limit of backends is reached: one is not kept", { backend: change.url })
          }
        }
      }
      // Another change may have come meanwhile.
      if (unwritten.get(key) === change) unwritten.delete(key)
    })

    const read = Effect.gen(function*() {
      for (const [key, change] of Array.from(unwritten)) yield* writeOne(key, change)
      const before = changes
      const stored = yield* store.backends
      return changes === before && unwritten.size === 0 ? stored : undefined
    }).pipe(Effect.timeout(longestWait))

    return {
      put: (backend, ttl) =>
        Effect.suspend(() => {
          changes += 1
          const millis = ttl === undefined ? undefined : Duration.toMillis(ttl)
          return store.putBackend({ key: backend.key, url: backend.url, ttl: millis }, dynamicBackendLimit).pipe(
            Effect.timeout(longestWait),
            Effect.tap(() => Effect.sync(() => void unwritten.delete(backend.key))),
            Effect.catch(() =>
              Effect.sync(() => {
                const expiresAt = millis === undefined ? undefined : clock.currentTimeMillisUnsafe() + millis
                keep(backend.key, backend.url, { expiresAt, isRemoval: false })
                return "unshared" as const
              })
            ),
            Effect.ensuring(Effect.sync(() => changes += 1))
          )
        }),
      remove: (key) =>
        Effect.suspend(() => {
          changes += 1
          return store.deleteBackend(key).pipe(
            Effect.timeout(longestWait),
            Effect.tap(() => Effect.sync(() => void unwritten.delete(key))),
            Effect.catch(() =>
              Effect.sync(() => {
                keep(key, key, { expiresAt: undefined, isRemoval: true })
                return undefined
              })
            ),
            Effect.ensuring(Effect.sync(() => changes += 1))
          )
        }),
      follow: Effect.fnUntraced(function*(hold) {
        const once = contained(Effect.flatMap(read, (stored) => stored === undefined ? Effect.void : hold(stored)))
        const first = yield* Deferred.make<void>()
        yield* Effect.andThen(once, Deferred.succeed(first, undefined)).pipe(
          Effect.andThen(Effect.forever(Effect.delay(once, "1 second"))),
          Effect.forkScoped
        )
        // By itself: a large backlog of one that is gone takes its time.
        yield* Effect.forkScoped(Effect.forever(Effect.delay(contained(store.clearBackends(statics)), "1 second")))
        yield* Effect.timeoutOption(Deferred.await(first), longestStart)
      })
    }
  })
)

const longestWait = "2 seconds"

/** A start does not wait for a store, or for names that don't resolve. */
const longestStart = "3 seconds"
