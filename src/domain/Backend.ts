/**
 * A backend: the base URL of one member cluster's Pipelines-as-Code controller.
 *
 * **Details**
 *
 * A URL is taken apart once, when the backend is configured or registered. A delivery then only has to put strings
 * together. Two backends with the same `key` are one backend, however their URLs were written.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { pathEnd } from "./RequestTarget.ts"

/** Static backends come from the settings, dynamic ones were registered over HTTP. */
export type BackendSource = "static" | "dynamic"

export interface Backend {
  /** The URL as it was configured or registered, without white space around it. `GET /backends` shows it. */
  readonly url: string
  /** The normalized URL. Two backends with the same key are one backend. */
  readonly key: string
  /** Scheme, host and port, as the dispatcher takes it: `https://pac.example.com`. */
  readonly origin: string
  /** The path that every delivery's path is appended to, without its trailing slash: `""` or `/base`. */
  readonly basePath: string
  /** The backend's name in logs and metrics: the host, with its port where one was written, and `basePath`. */
  readonly name: string
  readonly source: BackendSource
}

/**
 * The URL can't be a backend. `reason` may go out in an answer: it says what is allowed, and repeats nothing of the
 * URL.
 */
export class InvalidBackendUrl extends Schema.TaggedError<InvalidBackendUrl>()("InvalidBackendUrl", {
  url: Schema.String,
  reason: Schema.String
}) {}

/** The limit for a URL in characters, and for the key made from it in bytes. Databases can't index longer keys. */
const maxUrlLength = 2_048

/** Takes a backend's URL apart. Host, port and scheme are normalized as the WHATWG URL standard says. */
export const parse = (input: string, source: BackendSource): Result.Result<Backend, InvalidBackendUrl> => {
  const url = input.trim()
  const refuse = (reason: string) => Result.fail(new InvalidBackendUrl({ url, reason }))
  if (url.length > maxUrlLength) return refuse(`a backend url has at most ${maxUrlLength} characters`)
  const authority = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1]
  if (authority === undefined) return refuse("a backend url starts with http:// or https://")
  // The URL standard would repair these: it drops tabs and newlines, and reads `http:///host` as `http://host`.
  if (authority === "" || /[\s\\\p{Cc}]/u.test(url) || !URL.canParse(url)) {
    return refuse("a backend url is an absolute http or https url")
  }
  if (authority.includes("@")) return refuse("a backend url has no credentials")
  if (url.includes("#")) return refuse("a backend url has no fragment")
  if (url.includes("?")) return refuse("a backend url has no query")
  const { hostname, origin, pathname, port } = new URL(url)
  if (!isHost(hostname)) return refuse("a host is a name of letters, digits, - and _ between dots, or an IP address")
  if (port === "0") return refuse("a port is a whole number from 1 to 65535")
  const basePath = pathname.replaceAll(/\/{2,}/g, "/").replace(/\/$/, "")
  const key = origin + basePath
  if (key.length > maxUrlLength) {
    return refuse(`a backend url has at most ${maxUrlLength} characters when it is encoded`)
  }
  return Result.succeed({
    url,
    key,
    origin,
    basePath,
    name: hostname + (/:\d+$/.exec(authority)?.[0] ?? "") + basePath,
    source
  })
}

/**
 * Whether a resolver takes this normalized host: an address, or a name of labels (RFC 1123 §2.1). Underscores are
 * allowed, because clusters use them. The URL standard is no help here: it accepts `a.test,`, `$(HOST)` and `*.test`.
 */
const isHost = (host: string): boolean =>
  host.startsWith("[") || (host.length <= 254 && /^(?!-)[a-z\d_-]{1,63}(\.[a-z\d_-]{1,63})*\.?$/.test(host))

/**
 * A refused URL, fit to be shown. All before the last `@` is hidden, where passwords stand, and so are query and
 * fragment, where tokens stand.
 */
export const withoutSecrets = (url: string): string =>
  url.replace(/^([a-z][a-z\d+.-]*:\/\/)?.*@/is, "$1***@").replace(/[?#].*$/s, (rest) => `${rest.slice(0, 1)}***`)

/**
 * The path and query that are appended to every backend's `basePath`: the request target as received (`/proxy?x=1`)
 * without the `/proxy` that leads to us. The result starts with exactly one slash, because Go's mux answers `//` with a
 * redirect.
 */
export const forwardedTarget = (target: string): string => {
  const end = pathEnd(target)
  const path = target.slice(0, end)
  const query = target.slice(end)
  const inner = path === "/proxy" || path.startsWith("/proxy/") ? path.slice("/proxy".length) : path
  return `/${inner.replace(/^\/+/, "")}${query}`
}
