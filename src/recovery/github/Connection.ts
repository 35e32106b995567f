/**
 * The connection to GitHub's API, in the form that Octokit wants: a function like `fetch`.
 *
 * **Details**
 *
 * The proxy and the authorities are those that backends have: `HTTPS_PROXY` and `NO_PROXY`, Node's authorities and the
 * system's. Redirects are not followed: they would lead away from the API.
 *
 * **Gotchas**
 *
 * An answer is read to its end here, because Octokit takes one that breaks off for an empty one. A page would be missing
 * without anybody's knowing.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as tls from "node:tls"
import * as Undici from "undici"
import { authorizationOf } from "../../backends/connections/ProxyDispatcher.ts"
import { type InvalidProxy, proxyFor } from "../../backends/connections/ProxyRules.ts"
import { authorities } from "../../backends/connections/Trust.ts"
import { innermostMessage } from "../../domain/Text.ts"
import type { Environment } from "../../settings/Variables.ts"

/** GitHub aborts its own work after 10 s. */
const timeLimit = "15 seconds"

/** There was no answer, or not all of it. */
class NoAnswer extends Schema.TaggedError<NoAnswer>()("NoAnswer", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

/** Sends one request, and rejects if there is no whole answer. */
export type Fetch = (url: string, init: Undici.RequestInit) => Promise<Undici.Response>

interface Connection {
  readonly fetch: Fetch
  readonly isProxied: boolean
}

/** Connects when the first request is made. What is under way when the scope ends is given up. */
export const make = Effect.fnUntraced(function*(
  apiUrl: string,
  env: Environment
): Effect.fn.Return<Connection, InvalidProxy, Scope.Scope> {
  const proxy = yield* Effect.fromResult(proxyFor(new URL(apiUrl), env))
  let made: Undici.Dispatcher | undefined
  const dispatcher = () => made ??= dispatcherTo(apiUrl, proxy)
  yield* Effect.addFinalizer(() => Effect.promise(async () => await made?.destroy()))
  const run = yield* FiberSet.makeRuntime<never, Undici.Response, NoAnswer>()
  const fetch: Fetch = (url, { signal, ...init }) =>
    new Promise((resolve, reject) =>
      run(
        Effect.timeoutOrElse(
          Effect.tryPromise({
            try: async (ended) =>
              whole(await Undici.fetch(url, { ...init, redirect: "manual", dispatcher: dispatcher(), signal: ended })),
            catch: (error) => new NoAnswer({ reason: innermostMessage(error) })
          }),
          { duration: timeLimit, orElse: () => Effect.fail(new NoAnswer({ reason: `no answer within ${timeLimit}` })) }
        ),
        signal == null ? {} : { signal }
      ).addObserver((exit) => {
        if (Exit.isSuccess(exit)) resolve(exit.value)
        // By its name Octokit knows that no second try is wanted.
        else if (Cause.hasInterruptsOnly(exit.cause)) reject(new DOMException("given up", "AbortError"))
        else reject(Cause.squash(exit.cause))
      })
    )
  return { fetch, isProxied: proxy !== undefined }
})

const whole = async (response: Undici.Response): Promise<Undici.Response> => {
  const { headers, status } = response
  const text = await response.text()
  // A response with one of these is not allowed to have a body, be it empty.
  return new Undici.Response([204, 205, 304].includes(status) ? null : text, { status, headers })
}

const dispatcherTo = (apiUrl: string, proxy: URL | undefined): Undici.Dispatcher => {
  const secure = apiUrl.startsWith("https:") ? { secureContext: tls.createSecureContext({ ca: authorities() }) } : {}
  const connect = { timeout: 10_000, ...secure }
  const options = { allowH2: false, connect, headersTimeout: 0, bodyTimeout: 0 }
  if (proxy === undefined) return new Undici.Agent(options)
  const isSocks = proxy.protocol === "socks5:"
  const token = authorizationOf(proxy)
  return new Undici.ProxyAgent({
    ...options,
    // For SOCKS5 the credentials are in the URL. undici's errors contain neither.
    uri: isSocks ? proxy.href : proxy.origin,
    ...(token === undefined || isSocks ? {} : { token }),
    requestTls: connect,
    proxyTls: connect
  })
}
