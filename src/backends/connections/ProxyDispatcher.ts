/**
 * Sends requests through a proxy, as Go's client does. An https backend is reached through a tunnel (`CONNECT`, or
 * SOCKS5). For an http backend, the request line has the whole URL (RFC 9112 §3.2.2).
 *
 * **Details**
 *
 * undici's `ProxyAgent` makes the tunnels. It can't be given our headers as they are: if a flat list has several of one
 * name, it keeps the last. Its plain forwarding is not used, because it does the same, replaces the handler's
 * `onResponseStart` for good, and ignores the options of the connection.
 *
 * **Gotchas**
 *
 * Headers are a flat list of names and values without `Host`, which is added. In a tunnel, headers of the same name
 * move together.
 */
import * as Undici from "undici"

/** Sends requests for http backends to an http or https `proxy`, which `options.connect` connects to. */
export const forwarding = (proxy: URL, options: Undici.Agent.Options): ProxyDispatcher => {
  const agent = new Undici.Agent(options)
  const authorization = authorizationOf(proxy)
  const added = authorization === undefined ? [] : ["Proxy-Authorization", authorization]
  const dispatcher = agent.compose((dispatch) => (request, handler) => {
    const forwarded = {
      ...request,
      origin: proxy.origin,
      path: `${originOf(request)}${request.path}`,
      headers: [...added, "Host", new URL(originOf(request)).host, ...listOf(request)],
      // undici would take the name from `Host`, and reconnect whenever it changes.
      servername: proxy.hostname
    }
    return dispatch(forwarded, handler)
  })
  return { dispatcher, close: () => agent.close(), destroy: () => agent.destroy() }
}

/** How connections through tunnels are made. */
export interface TunnelOptions {
  readonly agent: Undici.Agent.Options
  /** Connects to the proxy, unless it speaks SOCKS5. */
  readonly connect: Undici.buildConnector.connector
  /** Milliseconds for each further step: the proxy's answer to `CONNECT`, and TLS with the backend. */
  readonly connectTimeout: number
  /** TLS with the backend. */
  readonly tls: Undici.buildConnector.BuildOptions
}

/** Sends requests through tunnels: those for https backends, and all of them if `proxy` speaks SOCKS5. */
export const tunnelling = (
  proxy: URL,
  { agent, connect, connectTimeout, tls }: TunnelOptions
): ProxyDispatcher => {
  const socks = proxy.protocol === "socks5:"
  const token = authorizationOf(proxy)
  const proxyAgent = new Undici.ProxyAgent({
    ...agent,
    connectTimeout,
    // For SOCKS5 the credentials are in the URL. undici's errors contain neither.
    uri: socks ? proxy.href : proxy.origin,
    ...(token === undefined || socks ? {} : { token }),
    requestTls: tls,
    clientFactory: (origin, clientOptions) =>
      new Undici.Pool(origin, { ...agent, ...clientOptions, connect, headersTimeout: connectTimeout })
  })
  const dispatcher = proxyAgent.compose((dispatch) => (request, handler) =>
    // The time-outs are given once more, because those of the agent don't reach undici's SOCKS5 connections.
    dispatch({ ...request, headersTimeout: 0, bodyTimeout: 0, headers: pairsOf(listOf(request)) }, handler)
  )
  return { dispatcher, close: () => proxyAgent.close(), destroy: () => proxyAgent.destroy() }
}

/** A dispatcher through a proxy. Whoever makes it ends it. */
export interface ProxyDispatcher {
  readonly dispatcher: Undici.Dispatcher
  /** Ends the dispatcher when nothing is under way any more. */
  readonly close: () => Promise<void>
  readonly destroy: () => Promise<void>
}

const originOf = ({ origin }: Undici.Dispatcher.DispatchOptions): string => new URL(origin ?? "").origin

const listOf = ({ headers }: Undici.Dispatcher.DispatchOptions): ReadonlyArray<string> => {
  if (!Array.isArray(headers ?? [])) throw new TypeError("headers are a flat list of names and values")
  return headers as ReadonlyArray<string> | undefined ?? []
}

/** undici's `ProxyAgent` collects the values of a name from pairs, but not from a flat list. */
const pairsOf = function*(list: ReadonlyArray<string>): Generator<[name: string, value: string]> {
  for (let at = 0; at + 1 < list.length; at += 2) yield [list[at]!, list[at + 1]!]
}

/** The credentials in the URL of a proxy, as RFC 7617 writes them. */
export const authorizationOf = ({ username, password }: URL): string | undefined =>
  username === "" && password === ""
    ? undefined
    : `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64")}`
