/** Makes the dynamic backends of this process the same as those that all replicas share. */
import type * as Clock from "effect/Clock"
import * as Result from "effect/Result"
import { type Backend, parse, withoutSecrets } from "../domain/Backend.ts"
import type { BackendFilter } from "../domain/BackendFilter.ts"
import type { Log } from "../observability/logs/Logging.ts"
import type { Entries } from "./Entries.ts"
import { type Expiry, monotonic } from "./Expiry.ts"
import type { SharedBackend } from "./Membership.ts"
import type { BackendPolicy } from "./Policy.ts"

export class Replication {
  readonly #entries: Entries
  readonly #policy: BackendPolicy["Service"]
  readonly #log: Log["Service"]
  readonly #clock: Clock.Clock
  readonly #bounded: (filter: BackendFilter | undefined) => BackendFilter | undefined
  /**
   * The URLs of shared backends that this process refuses, by key. Another replica, or an earlier version, has let them
   * in. Each is logged once.
   */
  readonly #refused = new Map<string, string>()

  constructor(
    entries: Entries,
    policy: BackendPolicy["Service"],
    log: Log["Service"],
    clock: Clock.Clock,
    bounded: (filter: BackendFilter | undefined) => BackendFilter | undefined
  ) {
    this.#entries = entries
    this.#policy = policy
    this.#log = log
    this.#clock = clock
    this.#bounded = bounded
  }

  /** Takes over all shared backends in one synchronous step. */
  hold(
    shared: ReadonlyArray<SharedBackend>,
    isUnsettled: (key: string) => boolean,
    isNoting: (key: string) => boolean
  ): void {
    const keys = new Set(shared.map(({ key }) => key))
    for (const entry of this.#entries) {
      const { key, source } = entry.backend
      if (source === "dynamic" && !keys.has(key) && !isUnsettled(key)) {
        this.#entries.remove(entry, "not shared any more")
      }
    }
    for (const key of this.#refused.keys()) if (!keys.has(key)) this.#refused.delete(key)
    for (const one of shared) if (!isUnsettled(one.key)) this.#holdOne(one, isNoting(one.key))
  }

  /** The key of a shared backend that is refused here, found by its URL. */
  keyOfRefused(url: string): string | undefined {
    return Array.from(this.#refused).find(([, refusedUrl]) => refusedUrl === url.trim())?.[0]
  }

  #holdOne(shared: SharedBackend, isNoting: boolean): void {
    const expiry = this.#expiryOf(shared)
    const filter = this.#bounded(shared.filter)
    const failingSince = shared.failingFor === undefined ? undefined : monotonic(this.#clock) - shared.failingFor
    const known = this.#entries.get(shared.key)
    if (known === undefined) {
      const backend = this.#admitted(shared)
      if (backend === undefined) return
      this.#entries.add(backend, shared.registeredAt, expiry, filter).failingSince = failingSince
      this.#log.write("info", "server registered", { backend: shared.url, by: "the store" })
    } else if (known.backend.source === "dynamic") {
      known.registeredAt = shared.registeredAt
      if (!isNoting) known.failingSince = failingSince
      this.#entries.renew(known, expiry, filter)
    }
  }

  #expiryOf({ expiresAt, expiresIn }: SharedBackend): Expiry {
    return expiresIn === undefined || expiresAt === undefined
      ? undefined
      : { endsAt: monotonic(this.#clock) + expiresIn, expiresAt }
  }

  #admitted({ key, url }: SharedBackend): Backend | undefined {
    const backend = parse(url, "dynamic")
    const reason = Result.isFailure(backend)
      ? backend.failure.reason
      : backend.success.key !== key
      ? "it is stored under another name"
      : this.#policy.refusalOf(backend.success)?.reason
    if (Result.isSuccess(backend) && reason === undefined) {
      this.#refused.delete(key)
      return backend.success
    }
    if (!this.#refused.has(key)) {
      this.#log.write("warn", "server not registered", { backend: withoutSecrets(url), reason })
    }
    this.#refused.set(key, url)
    return undefined
  }
}
