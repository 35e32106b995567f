/**
 * The flags of `sprayproxy deliveries list|show|redeliver`: what can be asked for, not how it is done. This file is
 * loaded at each start of the server, so it is small.
 */
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { rowStates } from "../../store/contract/Row.ts"
import { highestLimit, redeliveredState, usualLimit } from "../Defaults.ts"
import { type Common, common, commonOf, type Optional, switched, text } from "./CommonFlags.ts"

/** Filters as they were given: the server reads them. */
export interface GivenFilter {
  readonly state: string | undefined
  readonly backend: string | undefined
  readonly event: string | undefined
  readonly since: string | undefined
}

/** What the user asked for, as texts that are not yet checked. */
export type DeliveriesRequest =
  & Common
  & (
    | { readonly kind: "list"; readonly filter: GivenFilter; readonly limit: string | undefined; readonly all: boolean }
    | { readonly kind: "show"; readonly guid: string; readonly body: boolean }
    | {
      readonly kind: "redeliver"
      readonly guid: string | undefined
      readonly filter: GivenFilter
      readonly limit: string | undefined
      readonly all: boolean
    }
  )

/** The command. `chosen` gets what was asked for. */
export const deliveriesCommand = <E>(chosen: (request: DeliveriesRequest) => Effect.Effect<void, E>) =>
  Command.make("deliveries").pipe(
    Command.withDescription("What the store of a running server holds: list, show, send again"),
    Command.withSubcommands([
      Command.make(
        "list",
        { state: stateToList, ...filters, limit: pageLimit, all: allPages, ...common },
        (given) => chosen({ kind: "list", filter: filterOf(given), ...pagesOf(given), ...commonOf(given) })
      ).pipe(
        Command.withDescription("List deliveries, newest first"),
        Command.withExamples([{ command: "sprayproxy deliveries list --state dead --since 24h" }])
      ),
      Command.make(
        "show",
        { guid: Argument.String("guid").pipe(Argument.withDescription(guidText)), body, ...common },
        (
          given
        ) => chosen({ kind: "show", guid: given.guid, body: given.body, ...commonOf(given) })
      ).pipe(
        Command.withDescription("Show one delivery: headers, backends, every attempt"),
        Command.withExamples([{ command: "sprayproxy deliveries show 72d3162e-cc78-11e3-81ab-4c9367dc0958" }])
      ),
      Command.make("redeliver", {
        guid: Argument.String("guid").pipe(Argument.withDescription(guidText), Argument.optional),
        state: stateToRedeliver,
        ...filters,
        limit: batchLimit,
        all: allRows,
        ...common
      }, (given) =>
        chosen({
          kind: "redeliver",
          guid: Option.getOrUndefined(given.guid),
          filter: filterOf(given),
          ...pagesOf(given),
          ...commonOf(given)
        })).pipe(
          Command.withDescription("Send one delivery again, or all that match the filters"),
          Command.withExamples([
            { command: "sprayproxy deliveries redeliver 72d3162e-cc78-11e3-81ab-4c9367dc0958" },
            { command: "sprayproxy deliveries redeliver --state dead --backend https://pac.example.com --all" }
          ])
        )
    ])
  )

const guidText = "X-GitHub-Delivery, or our own id"

const state = (description: string) =>
  Flag.Literals("state", rowStates).pipe(
    Flag.withMetavar("<state>"),
    Flag.withDescription(description),
    Flag.optional
  )

const stateToList = state("Only in this state at a backend")
const stateToRedeliver = state(`Rows in this state [default: ${redeliveredState}]`)
const filters = {
  backend: text("backend", "<url>", "Only what goes to this backend"),
  event: text("event", "<name>", "Only this event, such as push"),
  since: text("since", "<time>", "Received since 2026-01-02T03:04:05Z, or in the last 24h")
}
const limit = (defaultText: string) =>
  text("limit", "<count>", `At most this many at once, up to ${highestLimit} [default: ${defaultText}]`)

const pageLimit = limit(`${usualLimit}, with --all ${highestLimit}`)
const batchLimit = limit(String(highestLimit))
const allPages = switched("all", "All that match, page after page")
const allRows = switched("all", "All that match, batch after batch")
const body = switched("body", "The payload too")

const filterOf = (given: Optional<keyof GivenFilter>): GivenFilter => ({
  state: Option.getOrUndefined(given.state),
  backend: Option.getOrUndefined(given.backend),
  event: Option.getOrUndefined(given.event),
  since: Option.getOrUndefined(given.since)
})

const pagesOf = (given: Optional<"limit"> & { readonly all: boolean }) => ({
  limit: Option.getOrUndefined(given.limit),
  all: given.all
})
