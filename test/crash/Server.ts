/** The built program as something to be killed: at any moment, before it listens too. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { secret } from "../support/GitHub.ts"
import { environment, programFile } from "../support/Program.ts"

export interface ServerOptions {
  readonly env?: Readonly<Record<string, string>>
  /** A module that is loaded before the program, and may be sent messages. */
  readonly preload?: string
}

export class Server {
  readonly process: ChildProcess
  /** Rejects when it ends before that. */
  readonly listening: Promise<{ readonly port: number; readonly metricsPort: number }>
  readonly exit: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  #stderr = ""

  constructor(args: ReadonlyArray<string>, { env = {}, preload }: ServerOptions = {}) {
    this.process = spawn(
      process.execPath,
      [
        ...(preload === undefined ? [] : ["--import", preload]),
        programFile,
        "server",
        "--host=127.0.0.1",
        "--port=0",
        "--metrics-port=0",
        ...args
      ],
      {
        env: { ...environment, GH_APP_WEBHOOK_SECRET: secret, ...env },
        stdio: ["ignore", "pipe", "pipe", ...(preload === undefined ? [] : ["ipc" as const])]
      }
    )
    this.process.stderr!.on("data", (chunk) => this.#stderr += String(chunk))
    this.exit = once(this.process, "close").then(([code, signal]) => ({ code, signal }))
    this.listening = new Promise((resolve, reject) => {
      const lines = createInterface({ input: this.process.stdout! })
      let port = 0
      let metricsPort = 0
      lines.on("line", (text) => {
        if (port > 0 && metricsPort > 0) return
        const line = JSON.parse(text) as { readonly msg: string; readonly port: number }
        if (line.msg === "listening") port = line.port
        if (line.msg === "metrics listening") metricsPort = line.port
        if (port > 0 && metricsPort > 0) resolve({ port, metricsPort })
      })
      void this.exit.then(() => reject(new Error(`the server ended: ${this.#stderr}`)))
    })
    this.listening.catch(() => {})
  }

  /** Kills it, and fails if it had ended by itself before. */
  async kill(): Promise<void> {
    this.process.kill("SIGKILL")
    const { code, signal } = await this.exit
    if (signal !== "SIGKILL") throw new Error(`the server ended by itself with exit code ${code}: ${this.#stderr}`)
  }

  /** Tells it to stop; its exit code. */
  async stop(): Promise<number | null> {
    this.process.kill("SIGTERM")
    return (await this.exit).code
  }
}

/** It is killed when the scope closes, if it is still there. */
export const startServer = (args: ReadonlyArray<string>): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Server(args)),
    (server) =>
      Effect.promise(async () => {
        server.process.kill("SIGKILL")
        await server.exit
      })
  )
