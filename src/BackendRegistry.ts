/**
 * The backends that deliveries go to: the static ones from the settings, and the dynamic ones that come and go.
 *
 * **Details**
 *
 * - Each change is made in one synchronous step after all that has to be waited for, so any number of changes at once
 *   lose none, and neither the limit nor "registered once" can be broken by two that cross.
 * - A dynamic backend may have a time to live. What was said last holds: registering it again with a `ttl` starts that
 *   one, registering it again without makes it stay until it is unregistered.
 * - What else there is of dynamic backends, after a restart or on other replicas, is for `BackendMembership`.
 *
 * **Gotchas**
 *
 * A backend that is already registered is not put before the policy again: a renewal must not fail because a name server
 * is slow, and its connections are checked anyway.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type Backend, type InvalidBackendUrl, parse, withoutSecrets } from "./Backend.ts"
import { BackendMembership } from "./BackendMembership.ts"
import { BackendPolicy, type BackendRefused } from "./BackendPolicy.ts"
import { contained } from "./Defects.ts"
import type { StoredBackend } from "./DeliveryStore.ts"
import * as GoDuration from "./GoDuration.ts"
import { Log } from "./Logging.ts"
import { Metrics } from "./Metrics.ts"
import { Settings } from "./Settings.ts"

/** A backend of the registry, as it was when it was asked for. All times are Unix times in milliseconds. */
export interface Registration {
  readonly backend: Backend
  /** For a static backend, when the registry was made. */
  readonly registeredAt: number
  /** `undefined`: never. */
  readonly expiresAt: number | undefined
  /** `undefined` before the first attempt has ended. */
  readonly lastOutcome: string | undefined
  readonly lastOutcomeAt: number | undefined
}

/** There are as many dynamic backends as the settings allow. */
export class BackendLimitReached extends Schema.TaggedError<BackendLimitReached>()("BackendLimitReached", {
  limit: Schema.Int
}) {}

export class BackendNotFound extends Schema.TaggedError<BackendNotFound>()("BackendNotFound", {
  url: Schema.String
}) {}

/** A static backend can't be unregistered. */
export class StaticBackend extends Schema.TaggedError<StaticBackend>()("StaticBackend", {
  url: Schema.String
}) {}

export class BackendRegistry extends Context.Service<BackendRegistry, {
  /** All backends, each once, static ones first. The same array until something changes. */
  readonly snapshot: () => ReadonlyArray<Backend>
  readonly list: Effect.Effect<ReadonlyArray<Registration>>
  /** Adds a dynamic backend. `"renewed"`: it was there already, as a dynamic or as a static one. */
  readonly register: (
    request: { readonly url: string; readonly ttl?: Duration.Duration | undefined }
  ) => Effect.Effect<"registered" | "renewed", InvalidBackendUrl | BackendRefused | BackendLimitReached>
  /** Removes a dynamic backend, however its URL was written when it was registered. */
  readonly unregister: (url: string) => Effect.Effect<void, BackendNotFound | StaticBackend>
  /** Remembers how the last attempt on a backend ended, and when (Unix milliseconds). Ignored if the backend is gone. */
  readonly recordOutcome: (backend: Backend, outcome: string, at: number) => void
}>()("sprayproxy/BackendRegistry") {
  static readonly layer = Layer.effect(
    BackendRegistry,
    Effect.gen(function*() {
      const settings = yield* Settings
      const policy = yield* BackendPolicy
      const log = yield* Log
      const metrics = yield* Metrics
      const clock = yield* Clock.Clock
      const membership = yield* BackendMembership
      const entries = new Map<string, Entry>()
      const expiryChanged = yield* Latch.make()
      let snapshot: ReadonlyArray<Backend> = []

      const add = (backend: Backend, registeredAt: number, expiresAt: number | undefined) => {
        entries.set(backend.key, { backend, registeredAt, expiresAt, lastOutcome: undefined, lastOutcomeAt: undefined })
        Latch.openUnsafe(expiryChanged)
        publish()
        metrics.added(backend)
      }

      const remove = (entry: Entry, reason: string | undefined) => {
        entries.delete(entry.backend.key)
        publish()
        log.write("info", "server unregistered", { backend: entry.backend.url, reason })
        metrics.removed(entry.backend)
      }

      const publish = () => {
        snapshot = Array.from(entries.values(), ({ backend }) => backend)
      }

      const after = (ttl: Duration.Duration | undefined) =>
        ttl === undefined ? undefined : clock.currentTimeMillisUnsafe() + Duration.toMillis(ttl)

      const expireAt = (entry: Entry, expiresAt: number | undefined) => {
        entry.expiresAt = expiresAt
        Latch.openUnsafe(expiryChanged)
      }

      const checkLimit = () =>
        entries.size - settings.backends.length < settings.dynamicBackendLimit
          ? Result.succeed(undefined)
          : Result.fail(new BackendLimitReached({ limit: settings.dynamicBackendLimit }))

      const register = Effect.fnUntraced(function*(
        { ttl, url }: { readonly url: string; readonly ttl?: Duration.Duration | undefined }
      ) {
        const backend = yield* Effect.fromResult(parse(url, "dynamic"))
        if (!entries.has(backend.key)) {
          yield* Effect.fromResult(checkLimit())
          yield* policy.admit(backend)
        }
        const isStatic = entries.get(backend.key)?.backend.source === "static"
        const shared = isStatic ? "unshared" : yield* membership.put(backend, ttl)
        if (shared === "limit") return yield* new BackendLimitReached({ limit: settings.dynamicBackendLimit })
        // No other change can come between the next line and the end: nothing more is waited for.
        const known = entries.get(backend.key)
        if (known?.backend.source === "dynamic") expireAt(known, after(ttl))
        if (known !== undefined && shared !== "added") {
          metrics.registryChanged("renewed")
          log.write("info", "server already registered", { backend: known.backend.url })
          return "renewed"
        }
        if (known === undefined) {
          const room = checkLimit()
          if (Result.isFailure(room)) return yield* room.failure
          add(backend, clock.currentTimeMillisUnsafe(), after(ttl))
        }
        metrics.registryChanged("registered")
        log.write("info", "server registered", { backend: backend.url, ttl: ttl && GoDuration.format(ttl) })
        return "registered"
      }, (self, { url }) =>
        Effect.tapError(self, (error) =>
          Effect.sync(() => {
            const reason = "reason" in error ? error.reason : "the limit is reached"
            log.write("warn", "server not registered", { backend: withoutSecrets(url), reason })
          })))

      const unregister = Effect.fnUntraced(function*(url: string) {
        const key = Result.getOrUndefined(Result.map(parse(url, "dynamic"), (backend) => backend.key))
        if (key === undefined) return yield* new BackendNotFound({ url })
        if (entries.get(key)?.backend.source === "static") return yield* new StaticBackend({ url })
        const wasShared = yield* membership.remove(key)
        const entry = entries.get(key)
        if (entry === undefined && wasShared !== true) return yield* new BackendNotFound({ url })
        if (entry !== undefined) remove(entry, undefined)
        metrics.registryChanged("unregistered")
      })

      /** Makes the dynamic backends those that all replicas share. */
      const hold = Effect.fnUntraced(function*(shared: ReadonlyArray<StoredBackend>) {
        const now = clock.currentTimeMillisUnsafe()
        const keys = new Set(shared.map(({ key }) => key))
        for (const entry of Array.from(entries.values())) {
          if (entry.backend.source === "dynamic" && !keys.has(entry.backend.key)) remove(entry, "not shared any more")
        }
        yield* Effect.forEach(shared, ({ expiresAt, key, registeredAt, url }) => {
          const known = entries.get(key)
          if (known?.backend.source === "dynamic") {
            known.registeredAt = registeredAt
            expireAt(known, expiresAt)
          }
          if (known !== undefined || (expiresAt !== undefined && expiresAt <= now)) return Effect.void
          return Effect.map(admitted(key, url), (backend) => {
            if (backend === undefined || entries.has(key)) return
            add(backend, registeredAt, expiresAt)
            log.write("info", "server registered", { backend: url, by: "the store" })
          })
        }, { concurrency: 50, discard: true })
      })

      /** What another replica has let in may be refused here; it is said once. */
      const refused = new Set<string>()
      const admitted = (key: string, url: string): Effect.Effect<Backend | undefined> =>
        Effect.gen(function*() {
          const backend = yield* Effect.fromResult(parse(url, "dynamic"))
          yield* policy.admit(backend)
          refused.delete(key)
          return backend
        }).pipe(
          Effect.catch(({ reason }) =>
            Effect.sync(() => {
              if (!refused.has(key)) {
                log.write("warn", "server not registered", { backend: withoutSecrets(url), reason })
              }
              refused.add(key)
              return undefined
            })
          )
        )

      // Looks at `expiresAt` at the moment of removal, so a renewal in the last millisecond counts.
      const expire = Effect.suspend(() => {
        const now = clock.currentTimeMillisUnsafe()
        let next = Infinity
        for (const entry of Array.from(entries.values())) {
          if (entry.expiresAt === undefined) continue
          if (entry.expiresAt <= now) {
            remove(entry, "ttl expired")
            metrics.registryChanged("expired")
          } else next = Math.min(next, entry.expiresAt)
        }
        Latch.closeUnsafe(expiryChanged)
        return next === Infinity ? expiryChanged.await : Effect.timeoutOption(expiryChanged.await, next - now)
      })

      for (const backend of settings.backends) add(backend, clock.currentTimeMillisUnsafe(), undefined)
      if (settings.enableDynamicBackends) yield* membership.follow(hold)
      // A defect waits, or it would be met again and again without a pause.
      yield* Effect.forkScoped(Effect.forever(contained(Effect.tapCause(expire, () => Effect.sleep("1 second")))))

      return BackendRegistry.of({
        snapshot: () => snapshot,
        list: Effect.sync(() => Array.from(entries.values(), (entry) => ({ ...entry }))),
        register,
        unregister,
        recordOutcome: (backend, outcome, at) => {
          const entry = entries.get(backend.key)
          if (entry === undefined) return
          entry.lastOutcome = outcome
          entry.lastOutcomeAt = at
        }
      })
    })
  )
}

type Entry = { -readonly [K in keyof Registration]: Registration[K] }
