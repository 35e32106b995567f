/**
 * Resolves host names for the connections to backends.
 *
 * **Details**
 *
 * getaddrinfo has libuv's four threads, which it shares with file reads. Many connections at once to a few hosts, or a
 * slow name server, would hold up everything else. So there is one lookup at a time for a host, however many ask, and
 * its answer is good for ten seconds.
 *
 * A failing name server must not take working backends away. So the last good answer is given until there is a new one.
 * It is also given if a new answer takes longer than a second, because a dying name server is more often silent than
 * wrong, and the connect time-out is already running. Failures are not remembered.
 *
 * **Gotchas**
 *
 * `net.connect` doesn't look IP literals up.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as dns from "node:dns"
import type * as net from "node:net"

/** Asks the system for all addresses of a host, in the order in which they should be tried. */
export type SystemLookup = (
  host: string,
  answer: (error: NodeJS.ErrnoException | null, addresses: ReadonlyArray<dns.LookupAddress>) => void
) => void

/** Milliseconds for which an answer is good. */
const freshFor = 10_000
/** Milliseconds that a caller waits for a new answer while an old one is known. */
const patience = 1_000
/** The most hosts of which the last answer is kept. The host that was not asked for the longest is forgotten first. */
const capacity = 4_096

export class Resolver extends Context.Service<Resolver, {
  /**
   * A `lookup` for `net.connect` and `tls.connect`. It honours `all` and `family`, keeps the system's order, and
   * ignores `hints`. It fails with the system's error, and with `ENOTFOUND` if the host has no address of the family.
   */
  readonly lookup: net.LookupFunction
}>()("sprayproxy/backends/connections/Resolver") {
  /** A resolver that asks `system`. It takes its times from the `Clock` of the fiber that builds the layer. */
  static readonly layerFrom = (system: SystemLookup): Layer.Layer<Resolver> =>
    Layer.effect(
      Resolver,
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        const run = Effect.runForkWith(yield* Effect.context<never>())
        const after = (delay: number, f: () => void) => {
          const fiber = run(Effect.andThen(Effect.sleep(delay), Effect.sync(f)))
          return () => fiber.interruptUnsafe()
        }
        return Resolver.of({ lookup: make(system, () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6, after) })
      })
    )

  /** Asks getaddrinfo. */
  static readonly layer = Resolver.layerFrom((host, answer) =>
    dns.lookup(host, { all: true, order: "verbatim" }, answer)
  )
}

type Addresses = ReadonlyArray<dns.LookupAddress>
type Waiter = (error: NodeJS.ErrnoException | null, addresses: Addresses) => void

interface Host {
  /** The last good answer. */
  addresses: Addresses | undefined
  freshUntil: number
  /** The callers that wait for the lookup under way. `undefined` if none is under way. */
  waiting: Set<Waiter> | undefined
}

const make = (
  system: SystemLookup,
  now: () => number,
  after: (delay: number, f: () => void) => () => void
): net.LookupFunction => {
  const hosts = new Map<string, Host>()

  const hostOf = (name: string): Host => {
    const host = hosts.get(name) ?? { addresses: undefined, freshUntil: 0, waiting: undefined }
    hosts.delete(name)
    hosts.set(name, host)
    if (hosts.size > capacity) hosts.delete(hosts.keys().next().value!)
    return host
  }

  const refresh = (name: string, host: Host): Set<Waiter> => {
    const waiting = new Set<Waiter>()
    host.waiting = waiting
    const settle: Waiter = (error, addresses) => {
      if (host.waiting !== waiting) return
      host.waiting = undefined
      if (error === null && addresses.length > 0) {
        host.addresses = addresses
        host.freshUntil = now() + freshFor
      }
      const failure = host.addresses === undefined ? error ?? notFound(name) : null
      for (const waiter of waiting) waiter(failure, host.addresses ?? [])
    }
    // A synchronous answer would reach nobody, because the caller is added only after this.
    system(name, (error, addresses) => queueMicrotask(() => settle(error, addresses)))
    return waiting
  }

  const addressesOf = (name: string, answer: Waiter): void => {
    const host = hostOf(name)
    const known = host.addresses
    if (known !== undefined && now() < host.freshUntil) return queueMicrotask(() => answer(null, known))
    const waiting = host.waiting ?? refresh(name, host)
    if (known === undefined) return void waiting.add(answer)
    const cancel = after(patience, () => {
      if (waiting.delete(waiter)) answer(null, known)
    })
    const waiter: Waiter = (error, addresses) => {
      cancel()
      answer(error, addresses)
    }
    waiting.add(waiter)
  }

  return (name, options, callback) =>
    addressesOf(name, (error, all) => {
      if (error !== null) return callback(error, [])
      const wanted = familyOf(options.family)
      const addresses = wanted === 0 ? all : all.filter(({ family }) => family === wanted)
      const first = addresses[0]
      if (first === undefined) return callback(notFound(name), [])
      return options.all === true ? callback(null, [...addresses]) : callback(null, first.address, first.family)
    })
}

const familyOf = (family: dns.LookupOptions["family"]): number =>
  family === "IPv4" ? 4 : family === "IPv6" ? 6 : family ?? 0

const notFound = (hostname: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`lookup ENOTFOUND ${hostname}`), { code: "ENOTFOUND", syscall: "lookup", hostname })
