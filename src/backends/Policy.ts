/**
 * Decides which dynamic backends may be registered, and to which addresses a dynamic backend may connect.
 *
 * **Details**
 *
 * A name can resolve to another address after its backend was admitted. So its addresses are checked twice. The check
 * at the registration tells at once whoever registers it. The check on every connection is what protects us.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as net from "node:net"
import type { Backend } from "../domain/Backend.ts"
import { hostOf, portOf } from "../domain/Origin.ts"
import { OwnListeners } from "../runtime/OwnListeners.ts"
import { Settings } from "../settings/Settings.ts"
import { forbiddenAddress, isLocalAddress } from "./AddressRules.ts"
import { matches } from "./HostPattern.ts"
import { Resolver } from "./connections/Resolver.ts"

/** A dynamic backend is not allowed. `reason` is fit for an answer: it never tells what a name resolves to. */
export class BackendRefused extends Schema.TaggedError<BackendRefused>()("BackendRefused", {
  reason: Schema.String
}) {}

export class BackendPolicy extends Context.Service<BackendPolicy, {
  /**
   * Whether a backend may be registered. A name that doesn't resolve within two seconds is admitted: it may be a cluster
   * that is still coming up, and it is checked again on every connection.
   */
  readonly admit: (backend: Backend) => Effect.Effect<void, BackendRefused>
  /** Why a backend may not be registered, as far as its URL alone tells. `undefined` if it may. */
  readonly refusalOf: (backend: Backend) => BackendRefused | undefined
  /** Why a dynamic backend may not connect to an address (an IP literal) and a port. `undefined` if it may. */
  readonly checkAddress: (address: string, port: number) => BackendRefused | undefined
}>()("sprayproxy/backends/Policy/BackendPolicy") {
  static readonly layer = Layer.effect(
    BackendPolicy,
    Effect.gen(function*() {
      const { dynamicBackendAllow: allowed } = yield* Settings
      const { lookup } = yield* Resolver
      const own = yield* OwnListeners

      const checkAddress = (address: string, port: number): BackendRefused | undefined => {
        const kind = forbiddenAddress(address)
        if (kind !== undefined) return new BackendRefused({ reason: `${kind} addresses are not allowed` })
        if (own.has(port) && isLocalAddress(address)) {
          return new BackendRefused({ reason: "a backend can't be this sprayproxy itself" })
        }
        return undefined
      }

      const refusalOf = (backend: Backend): BackendRefused | undefined => {
        const { host, port } = serverOf(backend)
        if (!matches(allowed, host)) {
          return new BackendRefused({ reason: `the host is not allowed; allowed are ${allowed.join(", ")}` })
        }
        return net.isIP(host) === 0 ? undefined : checkAddress(host, port)
      }

      const admit = Effect.fnUntraced(function*(backend: Backend) {
        const refusal = refusalOf(backend)
        if (refusal !== undefined) return yield* refusal
        const { host, port } = serverOf(backend)
        if (net.isIP(host) !== 0) return
        const addresses = yield* resolve(lookup, host)
        if (addresses.some((address) => checkAddress(address, port) !== undefined)) {
          return yield* new BackendRefused({ reason: resolvesInside })
        }
      })

      return BackendPolicy.of({ admit, refusalOf, checkAddress })
    })
  )
}

const serverOf = ({ origin }: Backend) => {
  const url = new URL(origin)
  return { host: hostOf(url), port: portOf(url) }
}

/**
 * One text for every kind of address. Otherwise the text would tell what lies behind a name that only we can resolve.
 */
const resolvesInside = "the host can't resolve to a link-local, metadata or unspecified address, nor to this sprayproxy"

/** The addresses of a host. Empty if it doesn't resolve in time. */
const resolve = (lookup: net.LookupFunction, host: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.callback<ReadonlyArray<string>>((resume) =>
    lookup(host, { all: true }, (error, addresses) => {
      if (error !== null) return resume(Effect.succeed([]))
      resume(Effect.succeed(typeof addresses === "string" ? [addresses] : addresses.map(({ address }) => address)))
    })
  ).pipe(
    Effect.timeoutOption("2 seconds"),
    Effect.map(Option.getOrElse((): ReadonlyArray<string> => []))
  )
