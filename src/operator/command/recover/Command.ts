/** `sprayproxy recover`: asks a running server and prints its answer. This file is loaded only for that. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Struct from "effect/Struct"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import type { Environment } from "../../../settings/Variables.ts"
import type { FoundLine, ReportLine } from "../../recovery/Answers.ts"
import { type CommandFailed, failed } from "../Failures.ts"
import { Output } from "../Output.ts"
import * as ProgressBar from "../ProgressBar.ts"
import { utc } from "../Text.ts"
import { RecoveryClient } from "./Client.ts"
import type { RecoverRequest } from "./Flags.ts"
import * as Progress from "./Progress.ts"
import * as Table from "./Table.ts"

/** Does what was asked for, and prints to the process's own stdout and stderr. */
export const run = (request: RecoverRequest, env: Environment): Effect.Effect<void, CommandFailed> =>
  Effect.provide(execute(request, env), Output.layer(env))

/** Does what was asked for, with any `Output`. Fails if anything that is missing stays so. */
export const execute = (request: RecoverRequest, env: Environment): Effect.Effect<void, CommandFailed, Output> =>
  Effect.provide(
    recover(request),
    RecoveryClient.layer(request, env).pipe(Layer.provide([FetchHttpClient.layer, NodeFileSystem.layer]))
  )

const recover = Effect.fnUntraced(function*(request: RecoverRequest) {
  const output = yield* Output
  const { found, report } = yield* look(request)
  if (!request.json) yield* output.print(tableOf(found, output) + summaryOf(report))
  const ended = report.run === null || report.missing === 0 ? undefined : yield* watch(report.run, report.missing)
  if (request.json) {
    const answer = {
      ...Struct.omit(report, ["type"]),
      found: found.map((line) => Struct.omit(line, ["type"])),
      ended: ended ?? null
    }
    yield* output.print(`${JSON.stringify(answer)}\n`)
  } else if (ended !== undefined) {
    yield* output.print(`recovered ${ended.recovered}${ended.givenUp === 0 ? "" : `, given up ${ended.givenUp}`}\n`)
  }
  if (ended !== undefined && ended.givenUp > 0) {
    return yield* failed(`${ended.givenUp} of ${deliveries(report.missing)} could not be recovered`)
  }
})

/** Has the server look through GitHub's log. */
const look = Effect.fnUntraced(function*(request: RecoverRequest) {
  const client = yield* RecoveryClient
  const output = yield* Output
  const found: Array<FoundLine> = []
  // Undefined: nothing is on the screen yet.
  let shown: number | undefined
  const report = yield* client.look(request, (line) => {
    if (line.type === "found") return Effect.sync(() => void found.push(line))
    // The server repeats itself while GitHub lets it wait.
    if (line.attempts === (shown ?? 0)) return Effect.void
    shown = line.attempts
    return ProgressBar.show(output, "attempts looked at", line.attempts, undefined)
  }).pipe(Effect.ensuring(Effect.suspend(() => shown === undefined ? Effect.void : ProgressBar.leave(output))))
  return { found, report }
})

/** Waits until each delivery that the run has found missing is recovered or given up. */
const watch = Effect.fnUntraced(function*(name: string, total: number) {
  const client = yield* RecoveryClient
  const output = yield* Output
  const progress = Progress.make(output, total)
  const status = client.status(name).pipe(
    // The server that is asked may be about to end, and then another one takes its place.
    Effect.retry({ schedule: Schedule.spaced("2 seconds"), times: 15 }),
    Effect.tap(progress.show)
  )
  const { givenUp } = yield* status.pipe(
    Effect.repeat({ schedule: Schedule.spaced("1 second"), until: ({ asked, wanted }) => asked + wanted === 0 }),
    Effect.ensuring(progress.leave),
    Effect.onInterrupt(() => output.say(`${progress.left()} still missing; the server goes on asking for them\n`)),
    Effect.catch(({ reason }) => failed(`${progress.left()} still missing; that can't be watched any more: ${reason}`))
  )
  return { recovered: Math.max(0, total - givenUp), givenUp }
})

const tableOf = (found: ReadonlyArray<FoundLine>, output: Output["Service"]): string =>
  found.length === 0 ? "" : Table.heading(output) + found.map((line) => Table.found(line, output)).join("")

const summaryOf = ({ answered, early, failed: all, held, missing, recovered, since }: ReportLine): string => {
  const counts = ([
    [held, "on disk here"],
    [answered, "answered without the store"],
    [recovered, "recovered before"],
    [early, "maybe still under way"]
  ] as const).filter(([count]) => count > 0).map(([count, what]) => `, ${count} ${what}`)
  return `${deliveries(all)} failed at GitHub since ${utc(since)} UTC: ${missing} missing${counts.join("")}\n`
}

const deliveries = (count: number): string => count === 1 ? "1 delivery" : `${count} deliveries`
