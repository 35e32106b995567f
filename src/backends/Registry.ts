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
import { type Backend, type InvalidBackendUrl, parse, withoutSecrets } from "../domain/Backend.ts"
import { Log } from "../observability/logs/Logging.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import * as Names from "../observability/metrics/Names.ts"
import { observableGauge } from "../observability/metrics/Series.ts"
import { contained } from "../runtime/Contained.ts"
import { KeyedLock } from "../runtime/KeyedLock.ts"
import * as GoDuration from "../settings/GoDuration.ts"
import { Settings } from "../settings/Settings.ts"
import { BackendMembership, type SharedBackend } from "./Membership.ts"
import { BackendPolicy, BackendRefused } from "./Policy.ts"

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
  /** False while those that other replicas share with this one have not been read yet. */
  readonly isKnown: () => boolean
  readonly list: Effect.Effect<ReadonlyArray<Registration>>
  /** Adds a dynamic backend. `"renewed"`: it was there already, as a dynamic or as a static one. */
  readonly register: (
    request: { readonly url: string; readonly ttl?: Duration.Duration | undefined }
  ) => Effect.Effect<"registered" | "renewed", InvalidBackendUrl | BackendRefused | BackendLimitReached>
  /** Removes a dynamic backend, however its URL was written when it was registered. */
  readonly unregister: (url: string) => Effect.Effect<void, BackendNotFound | StaticBackend>
  /** Remembers how the last attempt on a backend ended, and when (Unix milliseconds). Ignored if the backend is gone. */
  readonly recordOutcome: (backend: Backend, outcome: string, at: number) => void
}>()("sprayproxy/backends/Registry/BackendRegistry") {
  static readonly layer = Layer.effect(
    BackendRegistry,
    Effect.gen(function*() {
      const settings = yield* Settings
      const policy = yield* BackendPolicy
      const log = yield* Log
      const metrics = yield* Metrics
      const clock = yield* Clock.Clock
      const membership = yield* BackendMembership
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const entries = new Map<string, Entry>()
      const expiryChanged = yield* Latch.make()
      const locks = new KeyedLock()
      /** Keys of backends that have found room and are not in `entries` yet. */
      const taken = new Set<string>()
      let snapshot: ReadonlyArray<Backend> = []

      const publish = () => {
        snapshot = Array.from(entries.values(), ({ backend }) => backend)
      }

      const add = (backend: Backend, registeredAt: number, expiry: Expiry) => {
        taken.delete(backend.key)
        entries.set(backend.key, { backend, registeredAt, expiry, lastOutcome: undefined, lastOutcomeAt: undefined })
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

      const expiryAfter = (ttl: Duration.Duration | undefined, at: number): Expiry => {
        if (ttl === undefined) return undefined
        const millis = Duration.toMillis(ttl)
        return { endsAt: now() + millis, expiresAt: at + millis }
      }

      const expireAt = (entry: Entry, expiry: Expiry) => {
        entry.expiry = expiry
        Latch.openUnsafe(expiryChanged)
      }

      const takesRoom = (key: string) => () => {
        const isThere = entries.has(key)
        if (!isThere && entries.size + taken.size - settings.backends.length >= settings.dynamicBackendLimit) {
          return false
        }
        if (!isThere) taken.add(key)
        return true
      }

      const put = Effect.fnUntraced(function*(backend: Backend, ttl: Duration.Duration | undefined) {
        const { key } = backend
        const isStatic = entries.get(key)?.backend.source === "static"
        const shared = isStatic ? "unshared" : yield* membership.put(backend, ttl, takesRoom(key))
        if (shared === "limit") return yield* new BackendLimitReached({ limit: settings.dynamicBackendLimit })
        if (shared === "refused") return yield* new BackendRefused({ reason: "the store can't keep it" })
        const known = entries.get(key)
        const at = clock.currentTimeMillisUnsafe()
        if (known === undefined) add(backend, at, expiryAfter(ttl, at))
        else if (!isStatic) expireAt(known, expiryAfter(ttl, at))
        // Another replica may have registered it, or unregistered it, a moment ago: who is asked first knows.
        const isNew = shared === "unshared" ? known === undefined : shared === "added"
        metrics.registryChanged(isNew ? "registered" : "renewed")
        if (isNew) log.write("info", "server registered", { backend: backend.url, ttl: ttl && GoDuration.format(ttl) })
        else log.write("info", "server already registered", { backend: (known?.backend ?? backend).url })
        return isNew ? "registered" : "renewed"
      })

      const register = Effect.fnUntraced(function*(
        { ttl, url }: { readonly url: string; readonly ttl?: Duration.Duration | undefined }
      ) {
        const backend = yield* Effect.fromResult(parse(url, "dynamic"))
        if (!entries.has(backend.key)) yield* policy.admit(backend)
        return yield* locks.withLock(backend.key, put(backend, ttl)).pipe(
          Effect.ensuring(Effect.sync(() => taken.delete(backend.key)))
        )
      }, (self, { url }) =>
        Effect.tapError(self, (error) =>
          Effect.sync(() => {
            const reason = "reason" in error ? error.reason : "the limit is reached"
            log.write("warn", "server not registered", { backend: withoutSecrets(url), reason })
          })))

      const unregister = Effect.fnUntraced(function*(url: string) {
        const parsed = Result.getOrUndefined(Result.map(parse(url, "dynamic"), (backend) => backend.key))
        const key = parsed ?? keyOfRefused(url)
        if (key === undefined) return yield* new BackendNotFound({ url })
        if (entries.get(key)?.backend.source === "static") return yield* new StaticBackend({ url })
        const isGone = Effect.gen(function*() {
          const wasShared = yield* membership.remove(key, entries.has(key))
          const entry = entries.get(key)
          if (entry !== undefined) remove(entry, undefined)
          return entry !== undefined || wasShared === true
        })
        if (!(yield* locks.withLock(key, isGone))) return yield* new BackendNotFound({ url })
        metrics.registryChanged("unregistered")
      })

      /** Makes the dynamic backends those that all replicas share, all in one step. */
      const hold = (shared: ReadonlyArray<SharedBackend>, isUnsettled: (key: string) => boolean) => {
        const keys = new Set(shared.map(({ key }) => key))
        for (const entry of Array.from(entries.values())) {
          const { key, source } = entry.backend
          if (source === "dynamic" && !keys.has(key) && !isUnsettled(key)) remove(entry, "not shared any more")
        }
        for (const key of refused.keys()) if (!keys.has(key)) refused.delete(key)
        for (const { expiresAt, expiresIn, key, registeredAt, url } of shared) {
          if (isUnsettled(key)) continue
          const expiry = expiresIn === undefined || expiresAt === undefined
            ? undefined
            : { endsAt: now() + expiresIn, expiresAt }
          const known = entries.get(key)
          if (known?.backend.source === "dynamic") {
            known.registeredAt = registeredAt
            expireAt(known, expiry)
          }
          const backend = known === undefined ? admitted(key, url) : undefined
          if (backend === undefined) continue
          add(backend, registeredAt, expiry)
          log.write("info", "server registered", { backend: url, by: "the store" })
        }
      }

      /** What another replica, or an earlier version, has let in may be refused here; it is said once. By key, with its url. */
      const refused = new Map<string, string>()
      const keyOfRefused = (url: string) => Array.from(refused).find(([, refusedUrl]) => refusedUrl === url.trim())?.[0]
      const admitted = (key: string, url: string): Backend | undefined => {
        const backend = parse(url, "dynamic")
        const reason = Result.isFailure(backend)
          ? backend.failure.reason
          : backend.success.key !== key
          ? "it is stored under another name"
          : policy.refusalOf(backend.success)?.reason
        if (Result.isSuccess(backend) && reason === undefined) {
          refused.delete(key)
          return backend.success
        }
        if (!refused.has(key)) log.write("warn", "server not registered", { backend: withoutSecrets(url), reason })
        refused.set(key, url)
        return undefined
      }

      // Looks at the end at the moment of removal, so a renewal in the last millisecond counts.
      const expire = Effect.suspend(() => {
        const until = now()
        let next = Infinity
        for (const entry of Array.from(entries.values())) {
          if (entry.expiry === undefined) continue
          if (entry.expiry.endsAt <= until) {
            remove(entry, "ttl expired")
            metrics.registryChanged("expired")
          } else next = Math.min(next, entry.expiry.endsAt)
        }
        Latch.closeUnsafe(expiryChanged)
        return next === Infinity ? expiryChanged.await : Effect.timeoutOption(expiryChanged.await, next - until)
      })

      for (const backend of settings.backends) add(backend, clock.currentTimeMillisUnsafe(), undefined)
      if (settings.enableDynamicBackends) yield* membership.follow(hold)
      // A defect waits, or it would be met again and again without a pause.
      yield* Effect.forkScoped(Effect.forever(contained(Effect.tapCause(expire, () => Effect.sleep("1 second")))))

      for (const source of ["static", "dynamic"] as const) {
        const count = () => snapshot.filter((backend) => backend.source === source).length
        yield* observableGauge(Names.backends, count, { source })
      }

      return BackendRegistry.of({
        snapshot: () => snapshot,
        isKnown: () => !settings.enableDynamicBackends || membership.isKnown(),
        list: Effect.sync(() =>
          Array.from(entries.values(), (entry) => shown(entry, now(), clock.currentTimeMillisUnsafe()))
        ),
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

/** When a backend leaves, on the monotonic clock, and as people are told. */
type Expiry = { readonly endsAt: number; readonly expiresAt: number } | undefined

interface Entry {
  readonly backend: Backend
  registeredAt: number
  expiry: Expiry
  lastOutcome: string | undefined
  lastOutcomeAt: number | undefined
}

const shown = ({ expiry, ...entry }: Entry, now: number, wallNow: number): Registration => {
  if (expiry === undefined) return { ...entry, expiresAt: undefined }
  // As it was said first, unless a clock has been set since.
  const expiresAt = wallNow + Math.max(0, expiry.endsAt - now)
  return { ...entry, expiresAt: Math.abs(expiresAt - expiry.expiresAt) < 1_000 ? expiry.expiresAt : expiresAt }
}
