/**
 * Decides through which proxy a static backend is reached.
 *
 * **Details**
 *
 * The rules are those of Go's `net/http.ProxyFromEnvironment` (golang.org/x/net/http/httpproxy), because deployments
 * were set up for the original sprayproxy. Upper case wins over lower case, and an empty variable is an unset one.
 * `HTTP_PROXY` is never used for https backends. Localhost and loopback addresses are never proxied.
 *
 * `NO_PROXY` is a list with commas. Its entries are:
 *
 * - `*`: every host
 * - `10.0.0.0/8`: every address of a network, for backends whose URL has an address
 * - `10.1.2.3`, `[2001:db8::1]:443`: an address
 * - `example.com`: that host and all below it
 * - `.example.com`, `*.example.com`: only the hosts below it
 *
 * All but `*` and networks may end in a port. Entries that can't be read are ignored.
 *
 * **Gotchas**
 *
 * Go ignores a proxy that it can't read, and connects directly. Here that is an error if a backend would use the proxy,
 * because whoever names a proxy wants it used.
 */
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as net from "node:net"
import { domainToASCII } from "node:url"
import { hostOf, portOf } from "../../domain/Origin.ts"
import type { Environment } from "../../settings/Variables.ts"

/** A proxy can't be used. The error never has the variable's value, which may contain a password. */
export class InvalidProxy extends Schema.TaggedError<InvalidProxy>()("InvalidProxy", {
  /** The name of the environment variable, as it is written there. */
  variable: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.variable} can't be used: ${this.reason}`
  }
}

/**
 * The proxy for a backend's `origin`, or `undefined` to connect directly. Its scheme is `http:`, `https:` or `socks5:`.
 * It may contain credentials, so it must not be logged.
 */
export const proxyFor = (origin: URL, env: Environment): Result.Result<URL | undefined, InvalidProxy> => {
  const variable = variableFor(origin.protocol, env)
  const noProxy = firstSet(env, ["NO_PROXY", "no_proxy"])
  if (variable === undefined || isDirect(origin, noProxy === undefined ? "" : env[noProxy] ?? "")) {
    return Result.succeed(undefined)
  }
  return read(variable, env)
}

/** The proxies that can't be used and that no backend uses. One that a backend uses is an error of `proxyFor`. */
export const unusedFaults = (origins: ReadonlyArray<URL>, env: Environment): ReadonlyArray<InvalidProxy> =>
  ["https:", "http:"].flatMap((protocol) => {
    const variable = variableFor(protocol, env)
    if (variable === undefined) return []
    const isUsed = origins.some((origin) => origin.protocol === protocol && Result.isFailure(proxyFor(origin, env)))
    return isUsed ? [] : Option.toArray(Result.getFailure(read(variable, env)))
  })

const variableFor = (protocol: string, env: Environment): string | undefined =>
  firstSet(env, protocol === "https:" ? ["HTTPS_PROXY", "https_proxy"] : ["HTTP_PROXY", "http_proxy"])

const read = (variable: string, env: Environment): Result.Result<URL, InvalidProxy> => {
  // https://golang.org/s/cgihttpproxy: in a CGI process the variable holds the client's `Proxy` header.
  if (variable.toUpperCase() === "HTTP_PROXY" && isSet(env["REQUEST_METHOD"])) {
    return Result.fail(
      new InvalidProxy({ variable, reason: "REQUEST_METHOD is set, as in a CGI process" })
    )
  }
  const proxy = parse(env[variable] ?? "")
  return proxy === undefined ? Result.fail(new InvalidProxy({ variable, reason: allowed })) : Result.succeed(proxy)
}

const allowed =
  "a proxy is [http://|https://|socks5://][user:password@]host[:port], user and password percent-encoded where needed"

const isSet = (value: string | undefined): boolean => value !== undefined && value !== ""

const firstSet = (env: Environment, names: ReadonlyArray<string>): string | undefined =>
  names.find((name) => isSet(env[name]))

const parse = (value: string): URL | undefined => {
  const url = URL.parse(/^\s*[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value.trim()}`)
  if (url === null || url.hostname === "" || !/^(https?|socks5h?):$/.test(url.protocol)) return undefined
  try {
    decodeURIComponent(`${url.username}${url.password}`)
  } catch {
    return undefined
  }
  // With socks5 as with socks5h, the proxy looks the backend's name up, in Go and in undici.
  return url.protocol === "socks5h:" ? new URL(url.href.replace(/^socks5h/, "socks5")) : url
}

const isDirect = (origin: URL, noProxy: string): boolean => {
  const host = hostOf(origin)
  const port = String(portOf(origin))
  if (host === "localhost" || loopback(host)) return true
  const entries = noProxy.split(",").map((entry) => entry.trim().toLowerCase())
  return entries.includes("*") || entries.some((entry) => matches(entry, host, port))
}

const matches = (entry: string, host: string, port: string): boolean => {
  const [network = "", prefix] = entry.split("/", 2)
  if (prefix !== undefined && net.isIP(network) !== 0) {
    return /^\d{1,3}$/.test(prefix) && inNetwork(network, Number(prefix))(host)
  }
  // As in Go's net.SplitHostPort, an IPv6 address has brackets only with a port.
  const split = /^(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/.exec(entry)
  const name = split === null ? entry : split[1] ?? split[2] ?? ""
  const entryPort = split?.[3] ?? ""
  if (name === "" || (entryPort !== "" && entryPort !== port)) return false
  if (net.isIP(name) !== 0) return inNetwork(name)(host)
  const below = name.startsWith("*.") ? name.slice(1) : name
  const domain = ascii(below.replace(/^\./, ""))
  return host.endsWith(`.${domain}`) || (below[0] !== "." && host === domain)
}

/** Whether a host is an address of the network. Without a prefix length, whether it is the address itself. */
const inNetwork = (address: string, prefix?: number): (host: string) => boolean => {
  const family = familyOf(address)
  const list = new net.BlockList()
  if (prefix === undefined) list.addAddress(address, family)
  else if (prefix <= (family === "ipv4" ? 32 : 128)) list.addSubnet(address, prefix, family)
  // BlockList reads IPv4 addresses as IPv6 ones too, so that ::/0 would contain them. In Go it doesn't.
  return (host) =>
    net.isIP(host) !== 0 && (prefix === undefined || isMapped(host) || familyOf(host) === family) &&
    list.check(host, familyOf(host))
}

const familyOf = (address: string): "ipv4" | "ipv6" => net.isIPv6(address) ? "ipv6" : "ipv4"

/** IPv4-mapped IPv6, in the form in which `URL` writes it. */
const isMapped = (address: string): boolean => address.startsWith("::ffff:")

const isLoopbackV4 = inNetwork("127.0.0.0", 8)
const isLoopbackV6 = inNetwork("::1")
const loopback = (host: string): boolean => isLoopbackV4(host) || isLoopbackV6(host)

/** `URL` has made the backend's name ASCII, so the entry is made ASCII too. */
const ascii = (domain: string): string => /^\p{ASCII}*$/u.test(domain) ? domain : domainToASCII(domain) || domain
