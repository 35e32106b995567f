/** `sprayproxy deliveries`: asks a running server and prints its answer. This file is loaded only for that. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import type { Environment } from "../../settings/Variables.ts"
import type { ListAnswer, RedeliverMatchingAnswer } from "../Answers.ts"
import { highestLimit } from "../Defaults.ts"
import { DeliveriesClient } from "./Client.ts"
import { CommandFailed } from "./Failures.ts"
import type { DeliveriesRequest } from "./Flags.ts"
import { Output } from "./Output.ts"
import * as ProgressBar from "./ProgressBar.ts"
import * as DeliveriesTable from "./Table.ts"

type Asked<K> = Extract<DeliveriesRequest, { readonly kind: K }>

/** Does what was asked for, and prints to the process's own stdout and stderr. */
export const run = (request: DeliveriesRequest, env: Environment): Effect.Effect<void, CommandFailed> =>
  Effect.provide(execute(request, env), Output.layer(env))

/** Does what was asked for, with any `Output`. */
export const execute = (
  request: DeliveriesRequest,
  env: Environment
): Effect.Effect<void, CommandFailed, Output> =>
  Effect.suspend(() => {
    switch (request.kind) {
      case "list":
        return list(request)
      case "show":
        return show(request)
      case "redeliver":
        return request.guid === undefined ? redeliverMatching(request) : redeliver(request, request.guid)
    }
  }).pipe(Effect.provide(
    DeliveriesClient.layer(request, env).pipe(Layer.provide([FetchHttpClient.layer, NodeFileSystem.layer]))
  ))

const list = Effect.fnUntraced(function*({ all, filter, json, limit }: Asked<"list">) {
  const client = yield* DeliveriesClient
  const output = yield* Output
  const printPage = (page: typeof ListAnswer.Type, isFirst: boolean) => {
    if (json) return output.print(`${JSON.stringify(page)}\n`)
    if (page.deliveries.length === 0) return isFirst ? output.say("no deliveries\n") : Effect.void
    const heading = isFirst ? DeliveriesTable.listHeading(output) : ""
    return output.print(heading + DeliveriesTable.list(page.deliveries, output))
  }
  const ask = (cursor: string | undefined) =>
    client.list({ ...filter, limit: limit ?? (all ? String(highestLimit) : undefined), cursor })
  let page = yield* ask(undefined)
  yield* printPage(page, true)
  if (all) {
    while (page.next !== null) {
      page = yield* ask(page.next)
      yield* printPage(page, false)
    }
  }
  if (page.next !== null && !json) yield* output.say("there are more: --all shows them\n")
})

const show = Effect.fnUntraced(function*({ body, guid, json }: Asked<"show">) {
  const client = yield* DeliveriesClient
  const output = yield* Output
  const answer = yield* client.show(guid, body)
  yield* output.print(
    json
      ? `${JSON.stringify(answer)}\n`
      : answer.deliveries.map((delivery) => DeliveriesTable.show(delivery, output)).join("\n")
  )
})

const redeliver = Effect.fnUntraced(function*({ all, filter, json, limit }: Asked<"redeliver">, guid: string) {
  const { backend, ...others } = filter
  if (all || limit !== undefined || Object.values(others).some((value) => value !== undefined)) {
    return yield* new CommandFailed({ reason: "beside a delivery's GUID only --backend can be given" })
  }
  const client = yield* DeliveriesClient
  yield* report(yield* client.redeliver(guid, backend), json)
})

const redeliverMatching = Effect.fnUntraced(function*({ all, filter, json, limit }: Asked<"redeliver">) {
  if (Object.values(filter).every((value) => value === undefined)) {
    return yield* new CommandFailed({
      reason: "name a delivery by its GUID, or several with --state, --backend, --event or --since"
    })
  }
  const client = yield* DeliveriesClient
  const output = yield* Output
  const first = yield* client.redeliverMatching({ ...filter, limit, cursor: undefined })
  let { next, redelivered } = first
  // Undefined if there are too many for the server to count.
  const total = first.remaining === undefined ? undefined : redelivered + first.remaining
  const enough = total ?? Infinity
  const showProgress = Effect.suspend(() => ProgressBar.show(output, "redelivering", redelivered, total))
  const rest = Effect.gen(function*() {
    yield* showProgress
    // Rows that come to match meanwhile are not waited for.
    while (next !== null && redelivered < enough) {
      const batch: typeof RedeliverMatchingAnswer.Type = yield* client.redeliverMatching({
        ...filter,
        limit,
        cursor: next
      })
      redelivered += batch.redelivered
      next = batch.next
      yield* showProgress
    }
  }).pipe(
    Effect.ensuring(ProgressBar.leave(output)),
    Effect.mapError(({ reason }) =>
      new CommandFailed({
        reason: `after redelivering ${redelivered}${total === undefined ? "" : ` of ${total}`}: ${reason}`
      })
    )
  )
  if (all && next !== null) yield* rest
  const remaining = total === undefined ? undefined : Math.max(0, total - redelivered)
  yield* report({ redelivered, remaining: next === null ? 0 : remaining }, json, first.matched?.state)
})

const report = Effect.fnUntraced(function*(
  { redelivered, remaining }: { readonly redelivered: number; readonly remaining?: number | undefined },
  json: boolean,
  state?: string
) {
  const output = yield* Output
  yield* output.print(
    json
      ? `${JSON.stringify({ redelivered, remaining })}\n`
      : `${redelivered === 0 ? "nothing to redeliver" : `redelivering ${rows(redelivered)}`}${
        remaining !== 0
          ? `, ${remaining ?? "more"} remaining`
          : redelivered === 0 && state !== undefined
          ? `: no row that can be sent again is ${state} and matches`
          : ""
      }\n`
  )
})

const rows = (count: number): string => count === 1 ? "1 row" : `${count} rows`
