/**
 * The failures of a command, each in one line: the server's own words, why it can't be asked, or which parameter is bad.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { HttpClientError } from "effect/http/HttpClientError"
import { innermostMessage } from "../../domain/Text.ts"
import type { BodyTooLarge } from "../../http/JsonRequest.ts"
import { clientVariables } from "../../settings/Table.ts"
import * as Parameters from "../Parameters.ts"
import type { NotKept, Unavailable } from "../Refusals.ts"

/** The command can't be done. The message is one line. */
export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
}

export const failed = (reason: string) => Effect.fail(new CommandFailed({ reason }))

/** Puts each failure of a request into words for whoever has given the command. */
export const inWords = (server: string, hasToken: boolean) => {
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
    CannotBeDone: said,
    NotKept: (error: NotKept) =>
      isWithoutPath(error) ? failed(`${server} keeps no deliveries: it runs without a store`) : said(error),
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

/** Reads parameters as they were given. A bad one is refused here already, in the server's words. */
export const parametersOf = <A>(schema: Schema.ConstraintDecoder<A>) => {
  const decode = Schema.decodeUnknownEffect(schema, Parameters.strictly)
  return (given: object) =>
    Effect.catchTag(
      decode(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))),
      "SchemaError",
      ({ issue }) => said({ reason: Parameters.reasonOf(issue) })
    )
}

/** Over HTTP a bad parameter is named as it is there. On the command line it was a flag. */
const said = ({ reason }: { readonly reason: string }) =>
  failed(firstLine(reason).replace(/^invalid (?=(?:state|backend|event|since|limit) )/, "invalid --"))

/** Whether the server has no such path, and not only no such delivery. */
export const isWithoutPath = ({ reason }: NotKept): boolean => firstLine(reason) === "not found"

const firstLine = (text: string): string => text.trim().split("\n", 1)[0]!.slice(0, 512)
