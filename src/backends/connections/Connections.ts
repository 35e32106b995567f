/**
 * The connections to backends. They are kept for the next request, their certificates are checked, and those of dynamic
 * backends are also checked for their addresses.
 *
 * **Details**
 *
 * Static backends are reached directly, or through the proxy that the environment names. Dynamic ones are always
 * reached directly, because a proxy would look names up itself and the rules on addresses could not hold. Those rules
 * apply to every connection: to IP literals, and to all addresses of a name. One refused address fails the connection.
 *
 * Only HTTP/1.1 is spoken. A connection may be idle for 20 s, which is less than the 30 s of PaC's server. Once it is
 * five minutes old it takes no new request, so that changes in DNS are followed; the request that it carries is
 * finished. undici watches no deadline but that of connecting, because an attempt has its own.
 *
 * **Gotchas**
 *
 * Nothing closes the connections of a backend that was unregistered. They are idle, and gone after 20 s. Connections
 * that were made before `--backend-ca` changed are used until they are five minutes old.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type { SecureContext } from "node:tls"
import * as Undici from "undici"
import type { Backend } from "../../domain/Backend.ts"
import { portOf } from "../../domain/Origin.ts"
import { Timers } from "../../runtime/Timers.ts"
import { Settings } from "../../settings/Settings.ts"
import type { Environment } from "../../settings/Variables.ts"
import { BackendPolicy } from "../Policy.ts"
import * as BackendConnector from "./Connector.ts"
import { JoinedHeaders } from "./JoinedHeaders.ts"
import { BackendPool } from "./Pool.ts"
import * as ProxyDispatcher from "./ProxyDispatcher.ts"
import { type InvalidProxy, proxyFor } from "./ProxyRules.ts"
import { Resolver } from "./Resolver.ts"
import type { Sender } from "./Sender.ts"
import * as StatusLines from "./StatusLines.ts"
import * as BackendTrust from "./Trust.ts"

export class BackendConnections extends Context.Service<BackendConnections, {
  /**
   * The sender for a backend's requests. The `origin` of a request is the backend's, and its headers are without
   * `Host`. To be called once for each backend, because each sender has connections of its own.
   */
  readonly dispatcherFor: (backend: Backend) => Sender
}>()("sprayproxy/backends/connections/Connections/BackendConnections") {
  /**
   * Takes the proxies from `env`. Fails if a static backend's proxy or the file of `--backend-ca` can't be used. The
   * end of its scope destroys every connection, so requests under way should finish before.
   */
  static readonly layerFrom = (env: Environment) => Layer.effect(BackendConnections, Effect.suspend(() => make(env)))

  static readonly layer = BackendConnections.layerFrom(process.env)
}

const clientOptions = {
  allowH2: false,
  pipelining: 1,
  keepAliveTimeout: 20_000,
  // Without this, a server's `Keep-Alive: timeout=…` is believed up to ten minutes.
  keepAliveMaxTimeout: 20_000,
  headersTimeout: 0,
  bodyTimeout: 0,
  maxHeaderSize: 64 * 1024
}

const agentOptions = { ...clientOptions, clientTtl: 300_000 }

const make = Effect.fnUntraced(function*(env: Environment) {
  const settings = yield* Settings
  const { lookup } = yield* Resolver
  const policy = yield* BackendPolicy
  const timers = yield* Timers
  const trust = yield* BackendTrust.make(settings.backendCa)
  const connectTimeout = Math.max(1, Math.ceil(Math.min(5_000, Duration.toMillis(settings.forwardingTimeout))))

  const trusting = (secureContext: SecureContext) => ({
    allowH2: false,
    timeout: connectTimeout,
    secureContext,
    rejectUnauthorized: !settings.insecureSkipTlsVerify
  })

  const connector = (protocol: string, check?: (address: string) => Error | undefined) =>
    BackendConnector.make({
      lookup,
      timers,
      timeout: connectTimeout,
      check,
      // Each connector has TLS sessions of its own, because a session that is resumed is not checked again.
      secure: protocol === "https:"
        ? trust.withContext((context) => Undici.buildConnector(trusting(context)))
        : undefined
    })

  const checkedConnector = (origin: URL) =>
    connector(origin.protocol, (address) => {
      const refused = policy.checkAddress(address, portOf(origin))
      return refused === undefined ? undefined : new Error(`address refused: ${refused.reason}`, { cause: refused })
    })

  yield* Effect.acquireRelease(Effect.sync(StatusLines.watchConnections), (end) => Effect.sync(end))
  const headers = new JoinedHeaders()
  yield* Effect.acquireRelease(Effect.sync(() => headers.subscribe()), (end) => Effect.sync(end))
  const open = new Set<Undici.Client>()
  const proxies = new Map<string, Sender>()
  const proxyDispatchers = new Set<ProxyDispatcher.ProxyDispatcher>()
  yield* Effect.addFinalizer(() =>
    Effect.promise(() => Promise.all(Array.from([...open, ...proxyDispatchers], (one) => one.destroy())))
  )
  const direct = (origin: string, connect: Undici.buildConnector.connector): Sender => {
    const url = withFixedParts(new URL(origin))
    return new BackendPool(() => new Undici.Client(url, { ...clientOptions, connect }), open, headers)
  }
  const through = (key: string, create: () => Sender): Sender => {
    const sender = proxies.get(key) ?? create()
    proxies.set(key, sender)
    return sender
  }
  const forwarding = (proxy: URL): Sender => {
    const created = ProxyDispatcher.forwarding(proxy, { ...agentOptions, connect: connector(proxy.protocol) })
    proxyDispatchers.add(created)
    return created.dispatcher
  }
  const tunnelling = (proxy: URL, hostname: string): Sender => {
    let last: ProxyDispatcher.ProxyDispatcher | undefined
    const connect = connector(proxy.protocol)
    const current = trust.withContext((context) => {
      const outdated = last
      // Requests under way in its tunnels are finished.
      if (outdated !== undefined) void outdated.close().finally(() => proxyDispatchers.delete(outdated))
      last = ProxyDispatcher.tunnelling(proxy, {
        agent: agentOptions,
        connect,
        connectTimeout,
        tls: { ...trusting(context), servername: BackendConnector.serverName(hostname) }
      })
      proxyDispatchers.add(last)
      return last.dispatcher
    })
    return { dispatch: (options, handler) => current().dispatch(options, handler) }
  }
  const proxied = (proxy: URL, { hostname, origin, protocol }: URL): Sender =>
    protocol === "http:" && proxy.protocol !== "socks5:"
      ? through(`forwarding ${proxy.href}`, () => forwarding(proxy))
      // One for each backend, because it names the backend in TLS.
      : through(`tunnelling ${proxy.href} to ${origin}`, () => tunnelling(proxy, hostname))

  const dispatcherFor = ({ origin, source }: Backend): Result.Result<Sender, InvalidProxy> => {
    const url = new URL(origin)
    if (source === "dynamic") return Result.succeed(direct(origin, checkedConnector(url)))
    return Result.map(
      proxyFor(url, env),
      (proxy) => proxy === undefined ? direct(origin, connector(url.protocol)) : proxied(proxy, url)
    )
  }
  for (const { origin } of settings.backends) yield* Effect.fromResult(proxyFor(new URL(origin), env))
  return BackendConnections.of({ dispatcherFor: (backend) => Result.getOrThrow(dispatcherFor(backend)) })
})

/** undici reads these parts of a client's URL for each request, and a URL puts them together anew each time. */
const withFixedParts = (url: URL): URL =>
  Object.defineProperties(url, { origin: { value: url.origin }, protocol: { value: url.protocol } })
