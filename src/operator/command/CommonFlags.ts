/**
 * The flags that every command for a running server has, and how a flag is made. This file is loaded at each start of
 * the server, so it is small.
 */
import * as Option from "effect/Option"
import * as Flag from "effect/cli/Flag"
import { clientVariables } from "../../settings/Table.ts"

/** Where the server is, and how one gets in. Undefined if it was not given: the environment says it then. */
export interface ServerOptions {
  readonly server: string | undefined
  readonly tokenFile: string | undefined
}

export interface Common extends ServerOptions {
  readonly json: boolean
}

export type Optional<K extends string> = { readonly [P in K]: Option.Option<string> }

export const text = (name: string, metavar: string, description: string) =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)

export const switched = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false), Flag.withoutNegation)

export const common = {
  server: text("server", "<url>", `The running server [env: ${clientVariables.url}]`),
  tokenFile: text("token-file", "<path>", `File with a bearer token [env: ${clientVariables.token}]`),
  json: switched("json", "Print JSON")
}

export const commonOf = (given: Optional<"server" | "tokenFile"> & { readonly json: boolean }): Common => ({
  server: Option.getOrUndefined(given.server),
  tokenFile: Option.getOrUndefined(given.tokenFile),
  json: given.json
})
