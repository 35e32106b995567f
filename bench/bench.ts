/**
 * Measures the cost of a delivery: the built server beside the floor (`floor.ts`) and nginx, under the same load in the
 * same run.
 *
 * The exit code is 1 if something was lost, or answered otherwise than it must be. A target that is missed is reported,
 * and is no failure, because machines differ.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { chosen, list, scenarioNames } from "./Groups.ts"
import { help, type Options, parse } from "./command/Options.ts"
import * as Progress from "./command/Progress.ts"
import { Setup } from "./command/Setup.ts"
import type { ScenarioResult } from "./figures/Scenario.ts"
import { LoadProcess } from "./load/LoadProcess.ts"
import * as Machine from "./machine/Machine.ts"
import { chart } from "./report/Chart.ts"
import { type Report, withHeadline, withTable } from "./report/Report.ts"
import { machineLine, scenarioTable } from "./report/Table.ts"

class Unfit extends Schema.TaggedError<Unfit>()("Unfit", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

const measureAll = Effect.fnUntraced(function*(options: Options, machine: Machine.Machine) {
  const fs = yield* FileSystem.FileSystem
  // Tables go to stderr if stdout was asked to hold the JSON.
  const print = options.json === "-" ? Console.error : Console.log
  for (const { program } of options.builds) {
    if (!(yield* fs.exists(program))) return yield* new Unfit({ reason: `there is no ${program}; was it built?` })
  }
  yield* print(machineLine(machine))
  if (machine.nginx === undefined) yield* print("nginx: not installed, left out")
  const scenarios: Array<ScenarioResult> = []
  for (const { run } of chosen(options.only, options.builds.length > 1)) {
    const results = yield* run
    yield* Progress.clear
    for (const result of results) yield* print(scenarioTable(result))
    scenarios.push(...results)
  }
  const { nodeFlags, quick, serverFlags } = options
  const report: Report = { machine, quick, serverFlags, nodeFlags, scenarios }
  const json = `${JSON.stringify(report, null, 2)}\n`
  if (options.json === "-") yield* Effect.sync(() => process.stdout.write(json))
  else if (options.json !== undefined) yield* fs.writeFileString(options.json, json)
  if (options.report) {
    yield* fs.writeFileString("docs/benchmark.json", json)
    yield* fs.writeFileString("docs/benchmark.svg", chart(report))
    for (const [page, renew] of [["docs/performance.md", withTable], ["README.md", withHeadline]] as const) {
      yield* fs.writeFileString(page, renew(yield* fs.readFileString(page), report))
    }
  }
  const problems = scenarios.flatMap((scenario) => scenario.problems)
  if (problems.length > 0) return yield* new Unfit({ reason: `${problems.length} things went wrong, marked ✗ above` })
})

const main = Effect.gen(function*() {
  const options = yield* parse(process.argv.slice(2), scenarioNames)
  if (options.help) return yield* Console.log(help)
  if (options.list) return yield* Console.log(list)
  if (process.platform !== "linux") {
    return yield* new Unfit({ reason: "needs Linux: what a process uses is read from /proc" })
  }
  const machine = Machine.look()
  Machine.stepAside()
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sprayproxy-bench-" })
  return yield* measureAll(options, machine).pipe(
    Effect.provide(
      LoadProcess.layer.pipe(Layer.provideMerge(Layer.succeed(Setup, Setup.of({ options, machine, directory }))))
    )
  )
})

Effect.scoped(main).pipe(
  Effect.tapCause((cause) =>
    Effect.andThen(
      Progress.clear,
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : Console.error(`bench: ${Cause.prettyErrors(cause).map(({ message }) => message).join("; ")}`)
    )
  ),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  })
)
