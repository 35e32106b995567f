import { BlockList, isIP } from "node:net"

const loopback = new BlockList()
loopback.addSubnet("127.0.0.0", 8)
loopback.addAddress("::1", "ipv6")

/** Whether a host, a name or an address without brackets, is this machine. No name is looked up. */
export const isLoopback = (host: string): boolean =>
  host.toLowerCase() === "localhost" || (isIP(host) !== 0 && loopback.check(host, isIP(host) === 4 ? "ipv4" : "ipv6"))
