/** The built program, as a process of its own. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ChildProcess from "effect/process/ChildProcess"
import { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import { fileURLToPath } from "node:url"
import { secret } from "../test/support/github/Headers.ts"
import { decodeLogLine, Journal } from "./Journal.ts"

export class NotStarted extends Schema.TaggedError<NotStarted>()("NotStarted", {}) {
  override get message() {
    return "the server did not start; was it built? (npm run build)"
  }
}

const program = fileURLToPath(new URL("../dist/sprayproxy.js", import.meta.url))

/**
 * Starts the program on a free loopback port and puts its log lines into the journal. `stop` sends SIGTERM and succeeds
 * with the exit code. The end of the scope stops the program too, by force after 5 s.
 */
export const startSprayproxy = Effect.fnUntraced(function*(
  backends: ReadonlyArray<string>,
  settings: ReadonlyArray<string> = []
) {
  const journal = yield* Journal
  const listening = yield* Deferred.make<{ readonly port: number; readonly version: string }, NotStarted>()
  const flags = [
    "--host",
    "127.0.0.1",
    "--port",
    "0",
    "--metrics-port",
    "0",
    "--enable-dynamic-backends",
    "--log-format",
    "json"
  ]
  const server = yield* ChildProcess.make(
    process.execPath,
    [program, "server", ...flags, ...backends.flatMap((url) => ["--backend", url]), ...settings],
    // Ctrl-C reaches a terminal's whole process group. The server is in its own, so that SIGTERM is all it gets.
    {
      env: { GH_APP_WEBHOOK_SECRET: secret },
      detached: true,
      stdin: "ignore",
      stderr: "inherit",
      forceKillAfter: 5_000
    }
  )
  const kill = () => process.kill(server.pid, "SIGKILL")
  process.on("exit", kill)
  yield* Effect.addFinalizer(() => Effect.sync(() => process.off("exit", kill)))
  yield* server.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.map(decodeLogLine),
    Stream.filter(Option.isSome),
    Stream.runForEach(({ value: line }) =>
      line.msg === "listening"
        ? Deferred.succeed(listening, { port: line.port ?? 0, version: line.version ?? "" })
        : journal.logged(line)
    ),
    Effect.ensuring(Deferred.fail(listening, new NotStarted())),
    Effect.forkScoped
  )
  const { port, version } = yield* Deferred.await(listening)
  const url = `http://127.0.0.1:${port}`
  return {
    url,
    version,
    /** All that a command prints that asks this server. */
    ask: (...command: ReadonlyArray<string>) =>
      Effect.flatMap(
        ChildProcessSpawner,
        (spawner) =>
          spawner.string(
            ChildProcess.make(process.execPath, [program, ...command, "--server", url], { stdin: "ignore" }),
            { includeStderr: true }
          )
      ),
    stop: Effect.andThen(server.kill(), server.exitCode)
  }
})
