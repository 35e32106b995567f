/**
 * What goes out: the headers of a delivery as every backend gets them, made once for all of them.
 *
 * **Details**
 *
 * Headers are flat lists, name and value in turn, as `node:http` hands them over (`rawHeaders`) and as undici takes them:
 * order, case, repetitions and bytes (latin1) stay as they came.
 */

/** RFC 9110 §7.6.1, with the `Proxy-Connection` that old clients send. They end at us; `Proxy-*` by its prefix. */
const hopByHop = new Set(["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"])

/**
 * `host` becomes the backend's, which undici writes. `expect` was ours to answer (RFC 9110 §10.1.1). The length is told
 * by the body that is really sent.
 */
const notForwarded = (name: string) =>
  name === "host" || name === "expect" || name === "content-length" || hopByHop.has(name) || name.startsWith("proxy-")

/** The names that `Connection` declares to be for this hop only, lower case. */
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
 * The end-to-end headers of a request with `rawHeaders` and a body of `bodyLength` bytes, and `via` (a complete `Via`
 * value, RFC 9110 §7.6.3) at their end.
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

/** The first value of a header in a flat list; its name in lower case. */
export const headerOf = (headers: ReadonlyArray<string>, name: string): string | undefined => {
  for (let at = 0; at < headers.length; at += 2) {
    if (headers[at]!.length === name.length && headers[at]!.toLowerCase() === name) return headers[at + 1]
  }
  return undefined
}

/** More sprayproxies than this in `Via` is a loop, even if none of them is this deployment's. */
const maxSprayproxies = 4

/** Whether a request with this `Via` (its repetitions joined with commas) has been here, or in too many of us, before. */
export const isLoop = (via: string | undefined, ownNames: ReadonlyArray<string>): boolean => {
  if (via === undefined) return false
  let count = 0
  // Split first: anybody may send 16 kB of commas, and one expression for the whole list tries again from each of them.
  for (const entry of via.split(",")) {
    const pseudonym = /^\s*\S+\s+(sprayproxy-\S+)/.exec(entry)?.[1]
    if (pseudonym === undefined) continue
    count += 1
    if (ownNames.includes(pseudonym) || count > maxSprayproxies) return true
  }
  return false
}
