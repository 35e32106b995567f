/**
 * The backends that deliveries go to: the static ones from the settings, and the dynamic ones that come and go.
 *
 * **Details**
 *
 * - Each change is one synchronous step, made after everything that has to be waited for. So changes that cross lose
 *   nothing, and break neither the limit nor "registered once".
 * - A dynamic backend may have a time to live. The last registration decides: with a `ttl` that time begins, without
 *   one the backend stays until it is unregistered.
 * - So it is with its filter, which is kept within the server's bound.
 * - Dynamic backends from before a restart, or of other replicas, come from `BackendMembership`.
 *
 * **Gotchas**
 *
 * A backend that is already registered is not put before the policy again. A renewal must not fail because a name
 * server is slow, and the connections are checked anyway.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type Backend, type InvalidBackendUrl, parse, withoutSecrets } from "../domain/Backend.ts"
import { type BackendFilter, nothing } from "../domain/BackendFilter.ts"
import { isSuccess, type Outcome } from "../domain/Outcome.ts"
import { Log } from "../observability/logs/Logging.ts"
import { Metrics } from "../observability/metrics/Metrics.ts"
import * as Names from "../observability/metrics/Names.ts"
import { observableGauge } from "../observability/metrics/Series.ts"
import { contained } from "../runtime/Contained.ts"
import { KeyedLock } from "../runtime/KeyedLock.ts"
import * as GoDuration from "../settings/GoDuration.ts"
import { Settings } from "../settings/Settings.ts"
import * as Arrivals from "./Arrivals.ts"
import { Entries, type Entry } from "./Entries.ts"
import { expireNext, expiryAfter, shownExpiry } from "./Expiry.ts"
import * as Filters from "./Filters.ts"
import { BackendMembership, type Terms } from "./Membership.ts"
import { BackendPolicy, BackendRefused } from "./Policy.ts"
import { Replication } from "./Replication.ts"

/** A backend of the registry, as it was when it was asked for. All times are Unix times in milliseconds. */
export interface Registration {
  readonly backend: Backend
  /** For a static backend, the time when the registry was made. */
  readonly registeredAt: number
  /** `undefined`: it never expires. */
  readonly expiresAt: number | undefined
  /** `undefined`: it gets everything. */
  readonly filter: BackendFilter | undefined
  /** `undefined` before the first attempt has ended. */
  readonly lastOutcome: string | undefined
  readonly lastOutcomeAt: number | undefined
}

/** There are as many dynamic backends as the settings allow. */
export class BackendLimitReached extends Schema.TaggedError<BackendLimitReached>()("BackendLimitReached", {
  limit: Schema.Int
}) {}

/** No backend with this URL is registered. */
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
  /** False until the backends that replicas share have been read for the first time. */
  readonly isKnown: () => boolean
  readonly list: Effect.Effect<ReadonlyArray<Registration>>
  /** Whether a backend has a filter. */
  readonly isFiltered: () => boolean
  /** `undefined`: the backend gets everything. One that is gone gets `BackendFilter.nothing`. */
  readonly filterOf: (backend: Backend) => BackendFilter | undefined
  /** Adds a dynamic backend. `"renewed"`: it was there already, dynamic or static. */
  readonly register: (
    request: {
      readonly url: string
      readonly ttl?: Duration.Duration | undefined
      readonly filter?: BackendFilter | undefined
    }
  ) => Effect.Effect<"registered" | "renewed", InvalidBackendUrl | BackendRefused | BackendLimitReached>
  /** Removes a dynamic backend, however its URL was written when it was registered. */
  readonly unregister: (url: string) => Effect.Effect<void, BackendNotFound | StaticBackend>
  /** Remembers how the last attempt on a backend ended, and when (Unix milliseconds). Ignored if the backend is gone. */
  readonly recordOutcome: (backend: Backend, outcome: Outcome, at: number) => void
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
      const expiryChanged = yield* Latch.make()
      const locks = new KeyedLock()
      const usualTtl = Option.getOrUndefined(settings.dynamicBackendTtl)
      const deadAfter = Option.match(settings.dynamicBackendDeadAfter, {
        onNone: () => Infinity,
        onSome: Duration.toMillis
      })
      /** Keys of the backends that are being removed because they are dead. */
      const ending = new Set<string>()
      const runFork = yield* FiberSet.makeRuntime()
      const entries = new Entries(settings.dynamicBackendLimit, {
        added: metrics.added,
        removed: (backend, reason) => {
          log.write("info", "server unregistered", { backend: backend.url, reason })
          metrics.removed(backend)
        },
        expiryChanged: () => Latch.openUnsafe(expiryChanged)
      })
      const filters = Filters.make(settings)
      const replication = new Replication(entries, policy, log, clock, filters.bounded)

      const put = Effect.fnUntraced(function*(backend: Backend, terms: Terms) {
        const { key } = backend
        const { ttl } = terms
        const isStatic = entries.get(key)?.backend.source === "static"
        const shared = isStatic ? "unshared" : yield* membership.put(backend, terms, () => entries.takeRoom(key))
        if (shared === "limit") return yield* new BackendLimitReached({ limit: settings.dynamicBackendLimit })
        if (shared === "refused") return yield* new BackendRefused({ reason: "the store can't keep it" })
        const known = entries.get(key)
        const filter = filters.bounded(terms.filter)
        if (known === undefined) entries.add(backend, clock.currentTimeMillisUnsafe(), expiryAfter(ttl, clock), filter)
        else if (!isStatic) {
          entries.renew(known, expiryAfter(ttl, clock), filter)
          known.failingSince = undefined
        }
        // Another replica may have registered or unregistered it a moment ago. So the membership decides, because it
        // was asked first.
        const isNew = shared === "unshared" ? known === undefined : shared === "added"
        metrics.registryChanged(isNew ? "registered" : "renewed")
        const shown = Filters.fieldsOf(filter)
        if (isNew) {
          log.write("info", "server registered", { backend: backend.url, ttl: ttl && GoDuration.format(ttl), ...shown })
        } else log.write("info", "server already registered", { backend: (known?.backend ?? backend).url, ...shown })
        return isNew ? "registered" : "renewed"
      })

      const register = Effect.fnUntraced(function*(
        { filter, ttl = usualTtl, url }: Parameters<BackendRegistry["Service"]["register"]>[0]
      ) {
        const backend = yield* Effect.fromResult(parse(url, "dynamic"))
        const beyond = filters.beyondBound(filter)
        if (beyond !== undefined) return yield* new BackendRefused({ reason: beyond })
        if (!entries.has(backend.key)) yield* policy.admit(backend)
        return yield* locks.withLock(backend.key, put(backend, { ttl, filter })).pipe(
          Effect.ensuring(Effect.sync(() => entries.giveUpRoom(backend.key)))
        )
      }, (self, { url }) =>
        Effect.tapError(self, (error) =>
          Effect.sync(() => {
            const reason = "reason" in error ? error.reason : "the limit is reached"
            log.write("warn", "server not registered", { backend: withoutSecrets(url), reason })
          })))

      const unregister = Effect.fnUntraced(function*(url: string) {
        const parsed = Result.getOrUndefined(Result.map(parse(url, "dynamic"), (backend) => backend.key))
        const key = parsed ?? replication.keyOfRefused(url)
        if (key === undefined) return yield* new BackendNotFound({ url })
        if (entries.get(key)?.backend.source === "static") return yield* new StaticBackend({ url })
        const isGone = Effect.gen(function*() {
          const wasShared = yield* membership.remove(key, entries.has(key))
          const entry = entries.get(key)
          if (entry !== undefined) entries.remove(entry, undefined)
          return entry !== undefined || wasShared === true
        })
        if (!(yield* locks.withLock(key, isGone))) return yield* new BackendNotFound({ url })
        metrics.registryChanged("unregistered")
      })

      const removeDead = Effect.fnUntraced(function*(entry: Entry) {
        const { key } = entry.backend
        const wasShared = yield* membership.removeDead(key, deadAfter)
        // Something may have arrived meanwhile, and somebody may have registered or unregistered it.
        const isDead = wasShared ?? Arrivals.isDead(entry, deadAfter, clock)
        if (!isDead || entries.get(key) !== entry) return
        entries.remove(entry, "no delivery has arrived there for too long")
        metrics.registryChanged("dead")
      })
      const ofArrivals: Arrivals.ArrivalsObserver = {
        turned: (entry, isFailing) => membership.noteFailing(entry.backend.key, isFailing),
        dead: (entry) => {
          const { key } = entry.backend
          if (ending.has(key)) return
          ending.add(key)
          const ended = locks.withLock(key, removeDead(entry))
          runFork(Effect.ensuring(contained(ended), Effect.sync(() => ending.delete(key))))
        }
      }

      for (const backend of settings.backends) {
        entries.add(backend, clock.currentTimeMillisUnsafe(), undefined, filters.ofStatic(backend))
      }
      if (settings.enableDynamicBackends) {
        yield* membership.follow((...shared) => replication.hold(...shared))
      }
      const expire = expireNext(entries, clock, expiryChanged, (entry) => {
        entries.remove(entry, "ttl expired")
        metrics.registryChanged("expired")
      })
      // After a defect it waits, or it would meet the defect again and again without a pause.
      yield* Effect.forkScoped(Effect.forever(contained(Effect.tapCause(expire, () => Effect.sleep("1 second")))))

      for (const source of ["static", "dynamic"] as const) {
        const count = () => entries.snapshot.filter((backend) => backend.source === source).length
        yield* observableGauge(Names.backends, count, { source })
      }

      return BackendRegistry.of({
        snapshot: () => entries.snapshot,
        isFiltered: () => entries.isFiltered,
        filterOf: (backend) => {
          const entry = entries.get(backend.key)
          return entry === undefined ? nothing : entry.filter
        },
        isKnown: () => !settings.enableDynamicBackends || membership.isKnown(),
        list: Effect.sync(() =>
          Array.from(entries, ({ expiry, ...entry }) => ({ ...entry, expiresAt: shownExpiry(expiry, clock) }))
        ),
        register,
        unregister,
        recordOutcome: (backend, outcome, at) => {
          const entry = entries.get(backend.key)
          if (entry === undefined) return
          entry.lastOutcome = outcome
          entry.lastOutcomeAt = at
          if (deadAfter === Infinity || entry.backend.source === "static") return
          Arrivals.note(entry, isSuccess(outcome), deadAfter, clock, ofArrivals)
        }
      })
    })
  )
}
