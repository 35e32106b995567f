/**
 * Which hosts may be registered as dynamic backends.
 *
 * **Details**
 *
 * - `pac.example.com` is that host alone.
 * - `*.apps.example.com` is every host below `apps.example.com`, however deep, but not `apps.example.com`.
 * - `*` is every name.
 * - An IP address is allowed only by a pattern that is the same address, in the form in which URLs are normalized
 *   (`10.0.0.1`, `fd12::1`).
 *
 * Letter case, the trailing dot of a fully qualified name, and the brackets of an IPv6 address don't matter.
 */
import * as net from "node:net"

/** Whether a host may be registered: it matches a pattern, or there are no patterns. */
export const matches = (patterns: ReadonlyArray<string>, host: string): boolean => {
  if (patterns.length === 0) return true
  const wanted = normalize(host)
  const isAddress = net.isIP(wanted) !== 0
  return patterns.some((pattern) => {
    const allowed = normalize(pattern)
    if (allowed === "*") return !isAddress && isName(wanted)
    if (isAddress || !allowed.startsWith("*.")) return allowed === wanted
    const suffix = allowed.slice(1)
    return wanted.endsWith(suffix) && isName(wanted.slice(0, -suffix.length))
  })
}

const normalize = (host: string): string => host.toLowerCase().replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "")

const isName = (labels: string): boolean => labels.split(".").every((label) => label !== "")
