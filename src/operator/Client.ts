/**
 * A running server's `/deliveries`, asked over HTTP.
 *
 * **Details**
 *
 * Whatever goes wrong is one line: what the server says, or why it can't be asked.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { withoutSecrets } from "../domain/Backend.ts"
import { quote } from "../settings/Definition.ts"
import { clientVariables } from "../settings/Table.ts"
import type { Environment } from "../settings/Variables.ts"
import type { DeliveriesRequest, GivenFilter } from "./Flags.ts"
import { ListAnswer, RedeliverAllAnswer, RedeliverAnswer, ShowAnswer } from "./Views.ts"

/** The command can't be done. The message is one line. */
export class DeliveriesFailed extends Schema.TaggedError<DeliveriesFailed>()("DeliveriesFailed", {
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}

export class DeliveriesClient extends Context.Service<DeliveriesClient, {
  readonly list: (
    parameters: GivenFilter & { readonly limit: string | undefined; readonly cursor: string | undefined }
  ) => Effect.Effect<typeof ListAnswer.Type, DeliveriesFailed>
  readonly show: (guid: string, withBody: boolean) => Effect.Effect<typeof ShowAnswer.Type, DeliveriesFailed>
  /** All rows of one delivery, or the one of a backend. */
  readonly redeliver: (
    guid: string,
    backend: string | undefined
  ) => Effect.Effect<typeof RedeliverAnswer.Type, DeliveriesFailed>
  readonly redeliverMatching: (
    parameters: GivenFilter & { readonly limit: string | undefined; readonly cursor: string | undefined }
  ) => Effect.Effect<typeof RedeliverAllAnswer.Type, DeliveriesFailed>
}>()("sprayproxy/operator/Client/DeliveriesClient") {
  static readonly layer = (given: Pick<DeliveriesRequest, "server" | "tokenFile">, env: Environment) =>
    Layer.effect(
      DeliveriesClient,
      Effect.gen(function*() {
        const server = yield* serverUrl(given.server, env)
        const token = yield* readToken(given.tokenFile, env)
        const http = yield* HttpClient.HttpClient

        const ask = <S extends Schema.ConstraintDecoder<unknown>>(
          request: HttpClientRequest.HttpClientRequest,
          answer: S
        ) =>
          http.execute(token === undefined ? request : HttpClientRequest.bearerToken(request, token)).pipe(
            Effect.flatMap((response) => Effect.map(response.text, (text) => ({ status: response.status, text }))),
            Effect.timeout("60 seconds"),
            Effect.catchTags({
              TimeoutError: () => failed(`${server} does not answer`),
              HttpClientError: (error) => failed(`can't reach ${server}: ${innermostMessage(error)}`)
            }),
            Effect.flatMap(({ status, text }) =>
              status === 200
                ? Effect.catchTag(
                  Schema.decodeEffect(Schema.fromJsonString(answer))(text),
                  "SchemaError",
                  () => failed(`${server} does not answer as this version of sprayproxy does`)
                )
                : failed(refusalOf(server, status, text, token !== undefined))
            )
          )

        return DeliveriesClient.of({
          list: (parameters) =>
            ask(
              HttpClientRequest.get(`${server}/deliveries`, { urlParams: parameters, acceptJson: true }),
              ListAnswer
            ),
          show: (guid, withBody) =>
            ask(
              HttpClientRequest.get(`${server}/deliveries/${encodeURIComponent(guid)}`, {
                urlParams: withBody ? { body: "true" } : {},
                acceptJson: true
              }),
              ShowAnswer
            ),
          redeliver: (guid, backend) =>
            ask(
              HttpClientRequest.post(`${server}/deliveries/${encodeURIComponent(guid)}/redeliver`).pipe(
                HttpClientRequest.bodyJsonUnsafe({ backend })
              ),
              RedeliverAnswer
            ),
          redeliverMatching: (parameters) =>
            ask(
              HttpClientRequest.post(`${server}/deliveries/redeliver`).pipe(
                HttpClientRequest.bodyJsonUnsafe(parameters)
              ),
              RedeliverAllAnswer
            )
        })
      })
    )
}

const failed = (reason: string) => Effect.fail(new DeliveriesFailed({ reason }))

const serverUrl = (given: string | undefined, env: Environment): Effect.Effect<string, DeliveriesFailed> => {
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

/** The token stands in no command line: those are for all to see. */
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
  // RFC 6750 §2.1. Anything else would make an error that repeats it.
  if (/^[\w.~+/-]+=*$/.test(token)) return Redacted.make(token)
  return yield* failed(`${file === undefined ? clientVariables.token : `--token-file ${quote(file)}`} holds no token`)
})

const refusalOf = (server: string, status: number, text: string, hasToken: boolean): string => {
  const line = text.trim().split("\n", 1)[0]!.slice(0, 512)
  if (status === 401 || status === 403) {
    return hasToken
      ? `${server} refuses the token (${status})`
      : `${server} wants a token (${status}): give --token-file or ${clientVariables.token}`
  }
  if (status === 404 && line === "not found") return `${server} keeps no deliveries: it runs without a store`
  if (status === 400 || status === 404 || status === 422) return line
  return `${server} answered ${status}: ${line}`
}

const innermostMessage = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  if (error.cause instanceof Error) return innermostMessage(error.cause)
  // Node tries each address of a name, and says nothing of its own when all fail.
  if (error instanceof AggregateError && error.errors.length > 0) return innermostMessage(error.errors[0])
  return error.message || error.name
}
