/**
 * The flags of `sprayproxy recover`: what can be asked for, not how it is done. This file is loaded at each start of
 * the server, so it is small.
 */
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import { type Common, common, commonOf, switched, text } from "../CommonFlags.ts"

/** What the user asked for, as texts that are not yet checked. */
export interface RecoverRequest extends Common {
  readonly since: string | undefined
  readonly event: string | undefined
  readonly dryRun: boolean
}

/** The command. `chosen` gets what was asked for. */
export const recoverCommand = <E>(chosen: (request: RecoverRequest) => Effect.Effect<void, E>) =>
  Command.make("recover", {
    since: text("since", "<time>", "Failed at GitHub since 2026-01-02T03:04:05Z, or in the last 24h"),
    event: text("event", "<name>", "Only this event, such as push"),
    dryRun: switched("dry-run", "Only show what is missing"),
    ...common
  }, (given) =>
    chosen({
      since: Option.getOrUndefined(given.since),
      event: Option.getOrUndefined(given.event),
      dryRun: given.dryRun,
      ...commonOf(given)
    })).pipe(
      Command.withDescription("Ask GitHub for the deliveries that never arrived"),
      Command.withExamples([{ command: "sprayproxy recover --since 24h --dry-run" }])
    )
