/**
 * Asks a running server for its `/deliveries` over HTTP, with a client that is derived from the API.
 *
 * **Details**
 *
 * Every failure is one line: the server's own words, or why it can't be asked. Bad parameters are refused here already,
 * in the server's words.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { withoutSecrets } from "../../domain/Backend.ts"
import { innermostMessage, quote } from "../../domain/Text.ts"
import type { BodyTooLarge } from "../../http/JsonRequest.ts"
import { clientVariables } from "../../settings/Table.ts"
import type { Environment } from "../../settings/Variables.ts"
import type { ListAnswer, RedeliverAnswer, RedeliverMatchingAnswer, ShowAnswer } from "../Answers.ts"
import { DeliveriesApi, Guard } from "../Api.ts"
import * as Parameters from "../Parameters.ts"
import type { NotKept, Refusal, Unavailable } from "../Refusals.ts"
import type { DeliveriesRequest, GivenFilter } from "./Flags.ts"

/** The command can't be done. The message is one line. */
export class DeliveriesFailed extends Schema.TaggedError<DeliveriesFailed>()("DeliveriesFailed", {
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}

/** The parameters as they were given: texts, or undefined if nothing was given. */
type Given = GivenFilter & { readonly limit: string | undefined; readonly cursor: string | undefined }

export class DeliveriesClient extends Context.Service<DeliveriesClient, {
  readonly list: (parameters: Given) => Effect.Effect<typeof ListAnswer.Type, DeliveriesFailed>
  readonly show: (guid: string, withBody: boolean) => Effect.Effect<typeof ShowAnswer.Type, DeliveriesFailed>
  /** Redelivers all rows of one delivery, or only the row of `backend`. */
  readonly redeliver: (
    guid: string,
    backend: string | undefined
  ) => Effect.Effect<typeof RedeliverAnswer.Type, DeliveriesFailed>
  readonly redeliverMatching: (
    parameters: Given
  ) => Effect.Effect<typeof RedeliverMatchingAnswer.Type, DeliveriesFailed>
}>()("sprayproxy/operator/command/Client/DeliveriesClient") {
  static readonly layer = (options: Pick<DeliveriesRequest, "server" | "tokenFile">, env: Environment) =>
    Layer.effect(
      DeliveriesClient,
      Effect.gen(function*() {
        const server = yield* serverUrl(options.server, env)
        const token = yield* readToken(options.tokenFile, env)
        const client = yield* Effect.provide(
          HttpApiClient.make(DeliveriesApi, {
            baseUrl: server,
            transformClient: HttpClient.mapRequest(HttpClientRequest.acceptJson)
          }),
          HttpApiMiddleware.layerClient(
            Guard,
            ({ next, request }) => next(token === undefined ? request : HttpClientRequest.bearerToken(request, token))
          )
        )

        const ask = <A>(asked: Effect.Effect<A, Refusal | HttpClientError | Schema.SchemaError>) =>
          asked.pipe(
            Effect.timeout("60 seconds"),
            Effect.catchTags(inWords(server, token !== undefined))
          )

        return DeliveriesClient.of({
          list: (given) => Effect.flatMap(listParameters(given), (query) => ask(client.deliveries.list({ query }))),
          show: (guid, withBody) =>
            Effect.flatMap(segment(guid), (params) =>
              ask(client.deliveries.show({ params, query: withBody ? { body: true } : {} }))),
          redeliver: Effect.fnUntraced(function*(guid, backend) {
            const params = yield* segment(guid)
            const payload = yield* redeliverParameters({ backend })
            return yield* ask(client.deliveries.redeliver({ params, payload }))
          }),
          redeliverMatching: (given) =>
            Effect.flatMap(
              redeliverMatchingParameters(given),
              (payload) =>
                ask(client.deliveries.redeliverMatching({ payload }))
            )
        })
      })
    )
}

const failed = (reason: string) => Effect.fail(new DeliveriesFailed({ reason }))

/** A GUID as a segment of a path. `.` and `..` are refused, because they would be taken for a way up. */
const segment = (guid: string) =>
  guid === "." || guid === ".." ? failed("no delivery with this GUID or id is kept") : Effect.succeed({ guid })

const parametersOf = <A>(schema: Schema.ConstraintDecoder<A>) => {
  const decode = Schema.decodeUnknownEffect(schema, Parameters.strictly)
  return (given: object) =>
    Effect.catchTag(
      decode(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))),
      "SchemaError",
      ({ issue }) => said({ reason: Parameters.reasonOf(issue) })
    )
}

const listParameters = parametersOf(Parameters.ListParameters)
const redeliverParameters = parametersOf(Parameters.RedeliverParameters)
const redeliverMatchingParameters = parametersOf(Parameters.RedeliverMatchingParameters)

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

/** Puts each failure into words for whoever has given the command. */
const inWords = (server: string, hasToken: boolean) => {
  const answered = (status: number, text: string) => failed(`${server} answered ${status}: ${firstLine(text)}`)
  const unreached = (error: HttpClientError) => failed(`can't reach ${server}: ${innermostMessage(error)}`)
  const noEntry = (status: number) =>
    failed(
      hasToken
        ? `${server} refuses the token (${status})`
        : `${server} wants a token (${status}): give --token-file or ${clientVariables.token}`
    )
  return {
    InvalidQuery: said,
    NotJson: said,
    CannotRedeliver: said,
    NotKept: ({ reason }: NotKept) =>
      firstLine(reason) === "not found"
        ? failed(`${server} keeps no deliveries: it runs without a store`)
        : said({ reason }),
    Unauthorized: () => noEntry(401),
    Forbidden: () => noEntry(403),
    BodyTooLarge: ({ reason }: BodyTooLarge) => answered(413, reason),
    Unavailable: ({ reason }: Unavailable) => answered(503, reason),
    SchemaError: () => failed(`${server} does not answer as this version of sprayproxy does`),
    TimeoutError: () => failed(`${server} does not answer`),
    HttpClientError: (error: HttpClientError) => {
      if (!Predicate.isTagged(error.reason, "StatusCodeError")) return unreached(error)
      const { response } = error.reason
      return Effect.matchEffect(response.text, {
        onSuccess: (text) => answered(response.status, text),
        onFailure: unreached
      })
    }
  }
}

/** Over HTTP a bad parameter is named as it is there. On the command line it was a flag. */
const said = ({ reason }: { readonly reason: string }) =>
  failed(firstLine(reason).replace(/^invalid (?=(?:state|backend|event|since|limit) )/, "invalid --"))

const firstLine = (text: string): string => text.trim().split("\n", 1)[0]!.slice(0, 512)
