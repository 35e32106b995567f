/** kube-rbac-proxy in front of the program: TLS, HTTP/1.1 and HTTP/2, and a check before anything is passed on. */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import { createSecureServer } from "node:http2"
import { fileURLToPath } from "node:url"
import { listen } from "./Backend.ts"
import { endToEnd, makeForwarder } from "./ReverseProxy.ts"

export interface Guarded {
  readonly method: string
  readonly path: string
  readonly token: string | undefined
}

/** What goes wrong with a request that was let through: it arrives nowhere, or its answer is lost. */
export type Mishap = "request lost" | "answer lost"

/** Its certificate is one that no client knows. */
const pem = (name: string) => readFileSync(fileURLToPath(new URL(`../fixtures/tls/other${name}.pem`, import.meta.url)))

/** `refuse` gives the status with which the sidecar itself answers. A token that was taken goes no further. */
export const startSidecar = Effect.fnUntraced(function*(
  upstream: number,
  refuse: (request: Guarded) => number | undefined
) {
  const { errors, forward } = yield* makeForwarder(upstream, 32)
  const mishaps: Array<Mishap> = []
  const onRequest = (request: Http.IncomingMessage, response: Http.ServerResponse) => {
    const { ":authority": authority, authorization, ...others } = request.headers
    const token = /^Bearer (.+)$/.exec(authorization ?? "")?.[1]
    const refused = refuse({ method: request.method!, path: request.url!, token })
    const mishap = refused === undefined ? mishaps.shift() : undefined
    if (refused !== undefined) {
      request.resume()
      return response.writeHead(refused, { "content-type": "text/plain; charset=utf-8" }).end(
        Http.STATUS_CODES[refused]
      )
    }
    if (mishap === "request lost") {
      request.resume()
      return response.writeHead(502).end()
    }
    const headers: Http.OutgoingHttpHeaders = {
      ...endToEnd(others),
      host: others.host ?? String(authority),
      "x-forwarded-for": "10.0.0.7"
    }
    // Go's ReverseProxy sends a body whose length it does not know in chunks, also with GET and DELETE.
    if ("transfer-encoding" in others) headers["transfer-encoding"] = "chunked"
    return forward(request, response, headers, mishap === "answer lost")
  }
  const server = createSecureServer({ cert: pem(""), key: pem("-key"), allowHTTP1: true }, onRequest as never)
  const port = yield* listen(server)
  return { port, url: `https://127.0.0.1:${port}`, errors, befall: (mishap: Mishap) => void mishaps.push(mishap) }
})
