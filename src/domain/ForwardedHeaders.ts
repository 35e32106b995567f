/**
 * The headers of a delivery as they go out, made once for all backends.
 *
 * **Details**
 *
 * Headers are flat lists, name and value in turn. `node:http` hands them over so (`rawHeaders`), and undici takes them
 * so. Order, case, repetitions and bytes (latin1) stay as they came.
 */

/**
 * These concern one connection and end at us (RFC 9110 §7.6.1). `Proxy-*` is known by its prefix; old clients send
 * `Proxy-Connection`.
 */
const hopByHop = new Set(["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"])

/**
 * `host` is replaced: undici writes the backend's. `expect` was ours to answer (RFC 9110 §10.1.1). `content-length` is
 * written anew, for the body that is really sent.
 */
const notForwarded = (name: string) =>
  name === "host" || name === "expect" || name === "content-length" || hopByHop.has(name) || name.startsWith("proxy-")

/** The header names, in lower case, that `Connection` declares to be for this hop only. */
const namedByConnection = (rawHeaders: ReadonlyArray<string>): ReadonlyArray<string> => {
  let named: Array<string> | undefined
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== "connection") continue
    for (const option of rawHeaders[i + 1]!.toLowerCase().split(",")) {
      const name = option.trim()
      if (name !== "" && name !== "close" && name !== "keep-alive") (named ??= []).push(name)
    }
  }
  return named ?? []
}

/**
 * The end-to-end headers of a request with `rawHeaders` and a body of `bodyLength` bytes. `via`, a complete `Via` value
 * (RFC 9110 §7.6.3), comes last.
 */
export const forwardedHeaders = (
  rawHeaders: ReadonlyArray<string>,
  bodyLength: number,
  via: string
): Array<string> => {
  const named = namedByConnection(rawHeaders)
  const forwarded: Array<string> = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase()
    if (notForwarded(name) || (named.length > 0 && named.includes(name))) continue
    forwarded.push(rawHeaders[i]!, rawHeaders[i + 1]!)
  }
  forwarded.push("Content-Length", String(bodyLength), "Via", via)
  return forwarded
}

/** The first value of a header in a flat list. `name` is in lower case. */
export const headerOf = (headers: ReadonlyArray<string>, name: string): string | undefined => {
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]!.length === name.length && headers[at]!.toLowerCase() === name) return headers[at + 1]
  }
  return undefined
}

/** More sprayproxies than this in `Via` are a loop, even if none of them is this deployment. */
const maxSprayproxies = 4

/**
 * Whether a request with this `Via` runs in a loop: it has passed this deployment before, or too many sprayproxies.
 * Several `Via` headers are joined with commas. `ownNames` are this deployment's pseudonyms.
 */
export const isLoop = (via: string | undefined, ownNames: ReadonlyArray<string>): boolean => {
  if (via === undefined) return false
  let count = 0
  // Split first: anybody may send 16 kB of commas, and one expression for the whole list would start again at each of
  // them.
  for (const entry of via.split(",")) {
    const pseudonym = /^\s*\S+\s+(sprayproxy-\S+)/.exec(entry)?.[1]
    if (pseudonym === undefined) continue
    count += 1
    if (ownNames.includes(pseudonym) || count > maxSprayproxies) return true
  }
  return false
}
