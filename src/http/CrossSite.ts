/**
 * Refuses the requests that web pages send to operators' paths.
 *
 * **Details**
 *
 * If an operator forwards the port to a desk, nothing asks for a token there. Any page that is open in a browser on
 * that desk could then register a backend or send deliveries again. A browser marks each request that a page makes
 * (Fetch Metadata; `Origin`, RFC 6454 §7), and no page can prevent it. No page is ours: a page that seems to be has a
 * name that was made to resolve to the desk. Scripts send neither mark and pass.
 */
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { answerEarly } from "./EarlyAnswer.ts"
import type { Handlers } from "./MethodRoutes.ts"

/** The same handlers, but requests of web pages are answered 403. */
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

/**
 * Whether a web page makes the request. Header names are in lower case. The site `none` means that a person typed the
 * address.
 */
export const isOfAPage = (headers: Readonly<Record<string, string | undefined>>): boolean => {
  const { origin, "sec-fetch-site": site } = headers
  return origin !== undefined || (site !== undefined && site !== "none")
}
