/**
 * The IP addresses that a dynamic backend may never have.
 *
 * **Details**
 *
 * Whoever may register a backend can make us send requests into our own network. Refused are the addresses that no
 * member cluster has and that give away credentials: link-local ones (RFC 3927, RFC 4291 §2.5.6), the clouds' metadata
 * services, and the unspecified address, which the system takes for this machine.
 *
 * An IPv6 address that carries an IPv4 address is judged by both.
 */
import * as Result from "effect/Result"
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as os from "node:os"

/** Why an address is refused. Fit for an answer. */
export type ForbiddenKind = "link-local" | "metadata" | "unspecified" | "unreadable"

/**
 * The reason for which an address is always refused, or `undefined` for all others. Takes an IP literal without
 * brackets, with or without a zone (`fe80::1%eth0`). Any other text is `"unreadable"`. A call takes a few microseconds.
 */
export const forbiddenAddress = (address: string): ForbiddenKind | undefined => {
  const ip = parse(address)
  if (ip === undefined) return "unreadable"
  const kind = kindOf(ip)
  if (kind !== undefined) return kind
  for (const { address: inner, exact } of carried(ip)) {
    const innerKind = kindOf(inner)
    if (innerKind !== undefined && (exact || innerKind !== "unspecified")) return innerKind
  }
  return undefined
}

/**
 * Whether an IP literal is loopback, or an address of one of this machine's interfaces. Asks the system at each call.
 */
export const isLocalAddress = (address: string): boolean => {
  const ip = parse(address)
  if (ip === undefined) return false
  const candidates = [ip, ...carried(ip).map((inner) => inner.address)]
  if (candidates.some(NetAddress.isLoopback)) return true
  const own = new Set(Object.values(os.networkInterfaces()).flatMap((all) => all ?? []).map((one) => one.address))
  return candidates.some((candidate) => own.has(NetAddress.formatIp(candidate)))
}

const parse = (address: string): NetAddress.IpAddress | undefined => {
  const zoneAt = address.indexOf("%")
  return Result.getOrUndefined(NetAddress.ipFromString(zoneAt < 0 ? address : address.slice(0, zoneAt)))
}

const refused = ([
  ["link-local", "169.254.0.0/16"],
  ["link-local", "fe80::/10"],
  // Metadata services elsewhere than at link-local addresses: Azure, Alibaba, Oracle (Classic).
  ["metadata", "168.63.129.16/32"],
  ["metadata", "100.100.100.200/32"],
  ["metadata", "192.0.0.192/32"],
  // And over IPv6: AWS, Google, Oracle, Scaleway, Akamai, Alibaba.
  ["metadata", "fd00:ec2::/32"],
  ["metadata", "fd20:ce::254/128"],
  ["metadata", "fd00:c1::a9fe:a9fe/128"],
  ["metadata", "fd00:42::42/128"],
  ["metadata", "fd00:a9fe:a9fe::1/128"],
  ["metadata", "fd00:100::100:200/128"],
  // RFC 1122 §3.2.1.3: all of 0.0.0.0/8 is "this host on this network".
  ["unspecified", "0.0.0.0/8"],
  ["unspecified", "::/128"]
] as const).map(([kind, network]) => ({ kind, network: IpNetwork.fromStringUnsafe(network) }))

const kindOf = (ip: NetAddress.IpAddress): ForbiddenKind | undefined =>
  refused.find(({ network }) => IpNetwork.contains(network, ip))?.kind

interface Carrier {
  readonly network: IpNetwork.IpNetwork
  /** Whether these octets are surely the IPv4 address, or only if the network's owner chose so. */
  readonly exact: boolean
  /** The possible places of the four octets of the IPv4 address. */
  readonly octets: ReadonlyArray<readonly [number, number, number, number]>
}

const carriers: ReadonlyArray<Carrier> = ([
  // IPv4-compatible and IPv4-mapped, RFC 4291 §2.5.5.
  ["::/96", [[12, 13, 14, 15]]],
  ["::ffff:0:0/96", [[12, 13, 14, 15]]],
  // IPv4-translated, RFC 2765 §2.1.
  ["::ffff:0:0:0/96", [[12, 13, 14, 15]]],
  // NAT64, RFC 6052 §2.1.
  ["64:ff9b::/96", [[12, 13, 14, 15]]],
  // 6to4, RFC 3056 §2: a relay would send what goes here to the IPv4 address.
  ["2002::/16", [[2, 3, 4, 5]]]
] as const).map(([network, octets]) => ({ network: IpNetwork.fromStringUnsafe(network), exact: true, octets }))

// NAT64 with a prefix of the site's own choice, RFC 8215. The address may be at any place that RFC 6052 §2.2 has for a
// prefix of /48, /56, /64 or /96. Zeros are not taken for 0.0.0.0/8, because three of the four places are mere padding.
const localNat64: Carrier = {
  network: IpNetwork.fromStringUnsafe("64:ff9b:1::/48"),
  exact: false,
  octets: [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]]
}

interface Carried {
  readonly address: NetAddress.Ipv4Address
  readonly exact: boolean
}

const carried = (ip: NetAddress.IpAddress): ReadonlyArray<Carried> => {
  // ::1 lies in the IPv4-compatible range, where it would be 0.0.0.1.
  if (NetAddress.isIpv4Address(ip) || NetAddress.isLoopback(ip)) return []
  const carrier = IpNetwork.contains(localNat64.network, ip)
    ? localNat64
    : carriers.find(({ network }) => IpNetwork.contains(network, ip))
  if (carrier === undefined) return []
  const bytes = Uint8Array.from(NetAddress.ipv6ToOctets(ip))
  return carrier.octets.map((places) => ({
    address: NetAddress.ipv4FromBytesUnsafe(Uint8Array.from(places, (place) => bytes[place] ?? 0)),
    exact: carrier.exact
  }))
}
