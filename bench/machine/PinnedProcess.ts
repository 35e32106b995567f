/** Starts processes on the contenders' core, which run until the scope closes. */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, openSync } from "node:fs"
import * as Net from "node:net"
import * as Machine from "./Machine.ts"

/** stdout and stderr go to `logFile`. */
export const launch = (
  program: string,
  programArgs: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  logFile: string
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const output = openSync(logFile, "a")
      const [command, args] = Machine.on("contender", program, programArgs)
      const child = spawn(command, args, {
        env: { PATH: process.env["PATH"], ...env },
        stdio: ["ignore", output, output]
      })
      closeSync(output)
      // The child has no pid then, and whoever waits for it sees that.
      child.on("error", () => {})
      return child
    }),
    kill
  )

const kill = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.pid === undefined || hasEnded(child)) return
    const exit = once(child, "exit")
    child.kill("SIGKILL")
    await exit
  })

export const hasEnded = ({ exitCode, pid, signalCode }: ChildProcess): boolean =>
  pid === undefined || exitCode !== null || signalCode !== null

export const freePort: Effect.Effect<number> = Effect.promise(async () => {
  const server = Net.createServer()
  await once(server.listen(0, "127.0.0.1"), "listening")
  const { port } = server.address() as Net.AddressInfo
  server.close()
  return port
})
