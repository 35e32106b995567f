/** Measures the time from the start of the process to the first 200 of `/readyz`. */
import * as Effect from "effect/Effect"
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import * as Net from "node:net"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import * as Progress from "../command/Progress.ts"
import { Setup } from "../command/Setup.ts"
import { NotStarted } from "../contenders/Contenders.ts"
import { measuresOf, type Round } from "../figures/Measures.ts"
import { floorName, type ScenarioResult } from "../figures/Scenario.ts"
import { secret } from "../load/Messages.ts"
import { freePort, hasEnded, launch } from "../machine/PinnedProcess.ts"

const measureName = "to readiness (ms)"

export const startTime = Effect.gen(function*() {
  const { options } = yield* Setup
  const starts = options.quick ? 7 : 15
  const rounds: Array<Record<string, Round>> = []
  for (let i = 0; i < starts; i++) {
    yield* Progress.step(`start: ${i + 1} of ${starts}`)
    const round: Record<string, Round> = { [floorName]: { [measureName]: yield* bareNode } }
    for (const { name, program } of options.builds) round[name] = { [measureName]: yield* untilReady(name, program) }
    rounds.push(round)
  }
  return [{
    group: "start",
    name: "from the start of the process to /readyz",
    setting: `${starts} starts; the floor is \`node -e 0\`, from start to end`,
    measures: measuresOf(rounds.map((round) => [round]), { [measureName]: { on: "value", atMost: 400 } }),
    headlines: [measureName],
    notes: [],
    problems: []
  }] satisfies ReadonlyArray<ScenarioResult>
})

const bareNode = Effect.scoped(Effect.gen(function*() {
  const { directory, options } = yield* Setup
  const start = performance.now()
  const child = yield* launch(process.execPath, [...options.nodeFlags, "-e", "0"], {}, join(directory, "bare.log"))
  yield* Effect.promise(() => once(child, "exit"))
  return performance.now() - start
}))

const untilReady = (name: string, program: string) =>
  Effect.scoped(Effect.gen(function*() {
    const { directory, options } = yield* Setup
    const port = yield* freePort
    const flags = [
      "--host",
      "127.0.0.1",
      "--port",
      String(port),
      "--metrics-port",
      "0",
      "--backend",
      "http://127.0.0.1:9"
    ]
    const args = [...options.nodeFlags, program, "server", ...flags, ...options.serverFlags]
    const start = performance.now()
    const logFile = join(directory, "start.log")
    const child = yield* launch(process.execPath, args, { GH_APP_WEBHOOK_SECRET: secret }, logFile)
    yield* Effect.promise(() => ready(child, port))
    if (hasEnded(child)) return yield* new NotStarted({ name, output: "it ended" })
    return performance.now() - start
  }))

/** Asks every few milliseconds, until the process is ready or has ended. */
const ready = async (child: ChildProcess, port: number): Promise<void> => {
  if (hasEnded(child) || await isReady(port)) return
  await sleep(2)
  return ready(child, port)
}

const isReady = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1")
    const end = (is: boolean) => {
      socket.destroy()
      resolve(is)
    }
    socket.on("connect", () => socket.write("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    socket.on("data", (chunk) => end(chunk.toString("latin1").startsWith("HTTP/1.1 200")))
    socket.on("error", () => end(false)).on("close", () => end(false))
  })
