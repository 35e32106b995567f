/** The load process, as the benchmark sees it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Machine from "../machine/Machine.ts"
import type { Answers, BackendSpec, Question, RunRequest, RunResult } from "./Messages.ts"

export class LoadFailed extends Schema.TaggedError<LoadFailed>()("LoadFailed", { reason: Schema.String }) {
  override get message() {
    return `the load process: ${this.reason}`
  }
}

export class LoadProcess extends Context.Service<LoadProcess, {
  /** Replaces the backends. Succeeds with the URLs of the new ones. */
  readonly backends: (specs: ReadonlyArray<BackendSpec>) => Effect.Effect<ReadonlyArray<string>, LoadFailed>
  readonly run: (request: RunRequest) => Effect.Effect<RunResult, LoadFailed>
  readonly slowSenders: (port: number, count: number) => Effect.Effect<void, LoadFailed>
  /** Closes all connections to contenders. Succeeds with how often a slow sender was cut off. */
  readonly disconnect: Effect.Effect<number, LoadFailed>
}>()("sprayproxy/bench/load/LoadProcess") {
  static readonly layer = Layer.effect(
    LoadProcess,
    Effect.gen(function*() {
      const child = yield* Effect.acquireRelease(
        Effect.sync(start),
        (process) => Effect.sync(() => process.kill("SIGKILL"))
      )
      return LoadProcess.of({
        backends: (specs) => ask(child, { ask: "backends", specs }),
        run: (request) => ask(child, { ask: "run", ...request }),
        slowSenders: (port, count) => ask(child, { ask: "slow senders", port, count }),
        disconnect: ask(child, { ask: "disconnect" })
      })
    })
  )
}

const start = (): ChildProcess => {
  const program = fileURLToPath(new URL("load.ts", import.meta.url))
  // A scavenge of much that lives on, such as the sockets of 100 backends, would be a pause in every latency.
  const [command, args] = Machine.on("load", process.execPath, ["--max-semi-space-size=32", program])
  return spawn(command, args, { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" })
}

/** Asks the load process, which answers one question at a time. */
const ask = <Q extends Question>(child: ChildProcess, question: Q): Effect.Effect<Answers[Q["ask"]], LoadFailed> =>
  Effect.callback((resume) => {
    const fail = (reason: string) => resume(Effect.fail(new LoadFailed({ reason })))
    const onMessage = (message: { readonly answer: Answers[Q["ask"]] } | { readonly error: string }) => {
      stop()
      if ("error" in message) fail(message.error)
      else resume(Effect.succeed(message.answer))
    }
    const onExit = () => {
      stop()
      fail("it ended")
    }
    const stop = () => child.off("message", onMessage).off("exit", onExit)
    child.on("message", onMessage).on("exit", onExit)
    child.send(question, (error) => error !== null && fail(error.message))
    return Effect.sync(stop)
  })
