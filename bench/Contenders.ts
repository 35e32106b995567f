/** Those who are compared: the built server, the floor, and nginx. Each a process on the contenders' core. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs"
import * as Net from "node:net"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import * as Machine from "./Machine.ts"
import { secret } from "./Messages.ts"
import { nginxConfig } from "./Nginx.ts"
import { floorName, nginxName } from "./Scenario.ts"
import { Setup } from "./Setup.ts"

export interface Contender {
  readonly name: string
  readonly pid: number
  readonly port: number
  /** What it has written to stdout and stderr. */
  readonly logFile: string
}

export class NotStarted extends Schema.TaggedError<NotStarted>()("NotStarted", {
  name: Schema.String,
  output: Schema.String
}) {
  override get message() {
    return `${this.name} did not start: ${this.output.trim().slice(-400)}`
  }
}

export interface Surroundings {
  readonly backends: ReadonlyArray<string>
  readonly serverFlags?: ReadonlyArray<string>
  /** Modules that are loaded into Node first, of this folder. */
  readonly preload?: string
}

/** Starts a contender, until the scope closes. */
export type Start = (surroundings: Surroundings) => ReturnType<typeof startProcess>

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const ca = file("../test/fixtures/tls/ca.pem")

/** Only one: its own name says nothing. More than one: the files they are. */
export const serverName = (servers: ReadonlyArray<string>, server: string): string =>
  servers.length === 1 ? "sprayproxy" : server

export const startServer = (server: string): Start => ({ backends, preload, serverFlags = [] }) =>
  Effect.gen(function*() {
    const { options } = yield* Setup
    const nodeFlags = [...options.nodeFlags, ...preload === undefined ? [] : ["--import", file(preload)]]
    const flags = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--backend-ca", ca]
    return yield* startProcess(
      serverName(options.servers, server),
      process.execPath,
      [
        ...nodeFlags,
        server,
        "server",
        ...flags,
        ...backends.flatMap((url) => ["--backend", url]),
        ...serverFlags,
        ...options.serverFlags
      ]
    )
  })

export const startFloor: Start = ({ backends, preload }) =>
  Effect.gen(function*() {
    const { options } = yield* Setup
    const nodeFlags = [...options.nodeFlags, ...preload === undefined ? [] : ["--import", file(preload)]]
    return yield* startProcess(floorName, process.execPath, [...nodeFlags, file("floor.ts"), ...backends])
  })

export const startNginx: Start = ({ backends }) =>
  Effect.gen(function*() {
    const { directory } = yield* Setup
    const port = yield* Effect.promise(freePort)
    const configFile = join(directory, `nginx-${port}.conf`)
    writeFileSync(configFile, nginxConfig(directory, port, backends))
    return yield* startProcess(nginxName, "nginx", ["-p", directory, "-c", configFile, "-e", "stderr"], port)
  })

/** Which of them there are. The floor comes first. */
export const contenders = Effect.gen(function*() {
  const { machine, options } = yield* Setup
  return {
    node: [startFloor, ...options.servers.map(startServer)],
    all: [startFloor, ...options.servers.map(startServer), ...machine.nginx === undefined ? [] : [startNginx]]
  }
})

let started = 0

/** Succeeds when it listens: on `port`, or on the one that its log names. */
const startProcess = (name: string, program: string, programArgs: ReadonlyArray<string>, port?: number) =>
  Effect.gen(function*() {
    const { directory } = yield* Setup
    const logFile = join(directory, `${started++}.log`)
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const output = openSync(logFile, "a")
        const [command, args] = Machine.on("contender", program, programArgs)
        const env = { PATH: process.env["PATH"], GH_APP_WEBHOOK_SECRET: secret, FLOOR_CA: ca }
        const child = spawn(command, args, { env, stdio: ["ignore", output, output] })
        child.on("error", () => {})
        closeSync(output)
        return child
      }),
      (child) =>
        Effect.promise(async () => {
          child.kill("SIGKILL")
          while (child.pid !== undefined && child.exitCode === null && child.signalCode === null) await sleep(5)
        })
    )
    for (let i = 0; i < 500; i++) {
      if (child.pid === undefined || child.exitCode !== null) break
      const listening = port === undefined
        ? portInLog(logFile)
        : (yield* Effect.promise(() => isListening(port)))
        ? port
        : undefined
      if (listening !== undefined) return { name, pid: child.pid, port: listening, logFile } satisfies Contender
      yield* Effect.sleep("20 millis")
    }
    return yield* new NotStarted({ name, output: readFileSync(logFile, "utf8") })
  })

const portInLog = (logFile: string): number | undefined => {
  const line = readFileSync(logFile, "utf8").split("\n").find((line) => line.includes(`"msg":"listening"`))
  const port = /"port":(\d+)/.exec(line ?? "")?.[1]
  return port === undefined ? undefined : Number(port)
}

const isListening = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1")
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false)).on("connect", () => socket.destroy())
  })

export const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = Net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as Net.AddressInfo
      server.close(() => resolve(port))
    })
  })
