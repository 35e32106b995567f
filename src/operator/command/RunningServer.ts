/** The running server that a command asks over HTTP: its address, and the token for it. */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Redacted from "effect/Redacted"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { withoutSecrets } from "../../domain/Backend.ts"
import { innermostMessage, quote } from "../../domain/Text.ts"
import { clientVariables } from "../../settings/Table.ts"
import type { Environment } from "../../settings/Variables.ts"
import { Guard } from "../Api.ts"
import type { ServerOptions } from "./CommonFlags.ts"
import { type CommandFailed, failed } from "./Failures.ts"

export const runningServer = Effect.fnUntraced(function*(options: ServerOptions, env: Environment) {
  const url = yield* serverUrl(options.server, env)
  const token = yield* readToken(options.tokenFile, env)
  return {
    url,
    hasToken: token !== undefined,
    /** The options of a client that is derived from an API. */
    client: { baseUrl: url, transformClient: HttpClient.mapRequest(HttpClientRequest.acceptJson) },
    /** Shows the token to the server's guard. */
    Guarded: HttpApiMiddleware.layerClient(
      Guard,
      ({ next, request }) => next(token === undefined ? request : HttpClientRequest.bearerToken(request, token))
    )
  }
})

const serverUrl = (given: string | undefined, env: Environment): Effect.Effect<string, CommandFailed> => {
  const variable = env[clientVariables.url]?.trim() ?? ""
  const [name, text] = given !== undefined
    ? ["--server", given]
    : [clientVariables.url, variable === "" ? "http://127.0.0.1:8080" : variable]
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isServer = url !== undefined && /^https?:$/.test(url.protocol) && url.username + url.password === "" &&
    url.search + url.hash === ""
  return isServer
    ? Effect.succeed(url.href.replace(/\/+$/, ""))
    : failed(`invalid ${name} ${quote(withoutSecrets(text))}: a server is an http or https url without credentials`)
}

/** The token is never taken from the command line, which everybody on the machine can see. */
const readToken = Effect.fnUntraced(function*(file: string | undefined, env: Environment) {
  const fileSystem = yield* FileSystem.FileSystem
  const text = file === undefined
    ? env[clientVariables.token] ?? ""
    : yield* Effect.catch(
      fileSystem.readFileString(file),
      (error) => failed(`can't read --token-file ${quote(file)}: ${innermostMessage(error)}`)
    )
  const token = text.trim()
  if (file === undefined && token === "") return undefined
  // RFC 6750 §2.1. Any other text would make an error that repeats it.
  if (/^[\w.~+/-]+=*$/.test(token)) return Redacted.make(token)
  return yield* failed(`${file === undefined ? clientVariables.token : `--token-file ${quote(file)}`} holds no token`)
})
