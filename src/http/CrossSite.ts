/**
 * Keeps what a page in a browser sends away from operators' paths.
 *
 * **Details**
 *
 * Where the port is forwarded to a desk nothing asks for a token, and any page that is open there could register a backend or
 * send deliveries again. A browser says of each request that a page makes which one it is (Fetch Metadata, `Origin` in RFC 6454
 * §7), and no page can keep it from that. None is ours: one that seems to be has a name that was made to resolve to this desk.
 * Scripts say neither and pass.
 */
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { answerEarly } from "./EarlyAnswer.ts"
import type { Handlers } from "./MethodRoutes.ts"

/** The same handlers, for all requests but those of pages, which are answered 403. */
export const refusingPages = (handlers: Handlers): Handlers =>
  Object.fromEntries(
    Object.entries(handlers).map(([method, handler]) => [
      method,
      (request: HttpServerRequest, variable: string) =>
        isOfAPage(request.headers)
          ? answerEarly(request, 403, "requests of web pages are refused")
          : handler(request, variable)
    ])
  )

/** Header names in lower case. `none` is what a person has typed. */
export const isOfAPage = (headers: Readonly<Record<string, string | undefined>>): boolean => {
  const { origin, "sec-fetch-site": site } = headers
  return origin !== undefined || (site !== undefined && site !== "none")
}
