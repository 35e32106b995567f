/**
 * Keeps what a browser sends for another site away from operators' paths.
 *
 * **Details**
 *
 * Where the port is forwarded to a desk nothing asks for a token, and any page that is open there could register a backend or
 * send deliveries again. A browser says of each request whose page it comes from (Fetch Metadata, `Origin` in RFC 6454 §7), and
 * no page can make it say anything else. Scripts say neither and pass.
 */
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { answerEarly } from "./EarlyAnswer.ts"
import type { Handlers } from "./MethodRoutes.ts"

/** The same handlers, for all requests but those of other sites, which are answered 403. */
export const refusingOtherSites = (handlers: Handlers): Handlers =>
  Object.fromEntries(
    Object.entries(handlers).map(([method, handler]) => [
      method,
      (request: HttpServerRequest, variable: string) =>
        isOfAnotherSite(request.headers)
          ? answerEarly(request, 403, "requests of other sites are refused")
          : handler(request, variable)
    ])
  )

/** Header names in lower case. `same-site` is another host of the same domain, which is not us either. */
export const isOfAnotherSite = (headers: Readonly<Record<string, string | undefined>>): boolean => {
  const { host, origin, "sec-fetch-site": site } = headers
  if (site === "cross-site" || site === "same-site") return true
  return origin !== undefined && !isOrigin(origin, host)
}

/** Whether an origin (`null` for pages that have none) is that of a host as `Host` names it. The scheme ends before us. */
const isOrigin = (origin: string, host: string | undefined): boolean => {
  if (host === undefined || !URL.canParse(origin)) return false
  const { host: ofOrigin, protocol } = new URL(origin)
  return URL.canParse(`${protocol}//${host}`) && new URL(`${protocol}//${host}`).host === ofOrigin && ofOrigin !== ""
}
