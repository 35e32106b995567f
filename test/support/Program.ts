/** The built program as a process of its own. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { text as textOf } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { secret } from "./GitHub.ts"

/** The built program's file. */
export const programFile = fileURLToPath(new URL("../../dist/sprayproxy.js", import.meta.url))

/**
 * The environment of a started program, beside what the test gives. Node keeps compiled code as far as the tests keep
 * it.
 */
export const environment: Readonly<Record<string, string | undefined>> = {
  PATH: process.env["PATH"],
  NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"]
}

export interface LogLine {
  readonly level: string
  readonly msg: string
  readonly [field: string]: unknown
}

export interface Program {
  readonly port: number
  readonly url: string
  readonly process: ChildProcess
  /** Every line that the program has logged so far. */
  readonly logs: ReadonlyArray<LogLine>
  /** Resolves with the first line for which the predicate holds. It may be logged already or come later. */
  readonly logged: (predicate: (line: LogLine) => boolean) => Promise<LogLine>
  readonly stderr: () => string
  readonly exit: Promise<number | null>
}

/** Starts the program on free loopback ports and waits until it listens. */
export const startProgram = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(
        process.execPath,
        [programFile, "server", "--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", ...args],
        { env: { ...environment, GH_APP_WEBHOOK_SECRET: secret, ...env }, stdio: ["ignore", "pipe", "pipe"] }
      )
      const logs: Array<LogLine> = []
      const watchers = new Set<(line: LogLine) => void>()
      createInterface({ input: child.stdout! }).on("line", (text) => {
        const line = JSON.parse(text) as LogLine
        logs.push(line)
        for (const watcher of watchers) watcher(line)
      })
      let stderr = ""
      child.stderr!.on("data", (chunk) => stderr += String(chunk))
      const exit = once(child, "exit").then(([code]) => code as number | null)
      const logged = (predicate: (line: LogLine) => boolean) =>
        new Promise<LogLine>((resolve, reject) => {
          const found = logs.find(predicate)
          if (found !== undefined) return resolve(found)
          watchers.add((line) => predicate(line) && resolve(line))
          void exit.then(() => reject(new Error(`the program ended: ${stderr}`)))
        })
      const listening = await logged(({ msg }) => msg === "listening")
      const port = Number(listening["port"])
      return { port, url: `http://127.0.0.1:${port}`, process: child, logs, logged, stderr: () => stderr, exit }
    }),
    (program) =>
      Effect.promise(async () => {
        program.process.kill("SIGKILL")
        await program.exit
      })
  )

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end. The command is the program, unless another one is named. */
export const runToEnd = async (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  command: ReadonlyArray<string> = [process.execPath, programFile]
): Promise<Ended> => {
  const [file, ...before] = command
  const child = spawn(file!, [...before, ...args], {
    env: { ...environment, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 30_000
  })
  const ended = once(child, "close")
  const [stdout, stderr] = await Promise.all([textOf(child.stdout), textOf(child.stderr)])
  const [code, signal] = await ended
  return { code, signal, stdout, stderr }
}
