/**
 * The contenders that are compared: the built server, the floor, and nginx. Each is a process on the contenders' core.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync, writeFileSync } from "node:fs"
import * as Net from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Build } from "../command/Options.ts"
import { Setup } from "../command/Setup.ts"
import { type References, toFloors } from "../figures/Measures.ts"
import { floorName, loggedFloorName, nginxName } from "../figures/Scenario.ts"
import { secret } from "../load/Messages.ts"
import { freePort, hasEnded, launch } from "../machine/PinnedProcess.ts"
import { nginxConfig } from "./Nginx.ts"

export interface Contender {
  readonly name: string
  readonly pid: number
  readonly port: number
  /** The file with what the contender has written to stdout and stderr. */
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
  /** A module of this folder that is loaded into Node first. */
  readonly preload?: string
}

/** Starts a contender, which runs until the scope closes. */
export type Start = (surroundings: Surroundings) => ReturnType<typeof startProcess>

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const ca = file("../../test/fixtures/tls/ca.pem")

const nodeArgs = Effect.fnUntraced(function*(program: string, preload: string | undefined) {
  const { options } = yield* Setup
  return [...options.nodeFlags, ...preload === undefined ? [] : ["--import", file(preload)], program]
})

export const startServer = ({ name, program }: Build): Start =>
  Effect.fnUntraced(function*({ backends, preload, serverFlags = [] }) {
    const { options } = yield* Setup
    const port = yield* freePort
    const listeners = ["--host", "127.0.0.1", "--port", String(port), "--metrics-port", "0"]
    const flags = [...listeners, "--backend-ca", ca, ...backends.flatMap((url) => ["--backend", url])]
    const args = [...yield* nodeArgs(program, preload), "server", ...flags, ...serverFlags, ...options.serverFlags]
    return yield* startProcess(name, process.execPath, args, port)
  })

const floor = (name: string, records: "unlogged" | "logged"): Start =>
  Effect.fnUntraced(function*({ backends, preload }) {
    const port = yield* freePort
    const args = [...yield* nodeArgs(file("floor.ts"), preload), records, String(port), ca, ...backends]
    return yield* startProcess(name, process.execPath, args, port)
  })

const startNginx: Start = Effect.fnUntraced(function*({ backends }) {
  const { directory } = yield* Setup
  const port = yield* freePort
  const configFile = join(directory, `nginx-${port}.conf`)
  writeFileSync(configFile, nginxConfig(directory, port, backends))
  return yield* startProcess(nginxName, "nginx", ["-p", directory, "-c", configFile, "-e", "stderr"], port)
})

/**
 * The contenders, the floors first. Builds that are compared with each other stand alone, because they need many slots.
 */
export const contenders = Effect.gen(function*() {
  const { machine, options } = yield* Setup
  const servers = options.builds.map(startServer)
  const [{ name: measured }, ...others] = options.builds
  if (others.length > 0) {
    const references: References = (name) => name === measured ? others.map((other) => other.name) : []
    return { servers, node: servers, unlogged: servers, nginx: [], references }
  }
  const unlogged = [floor(floorName, "unlogged"), ...servers]
  return {
    servers,
    unlogged,
    node: [floor(floorName, "unlogged"), floor(loggedFloorName, "logged"), ...servers],
    nginx: machine.nginx === undefined ? [] : [startNginx],
    references: toFloors
  }
})

export const startAll = (starts: ReadonlyArray<Start>, surroundings: Surroundings) =>
  Effect.forEach(starts, (start) => start(surroundings))

let started = 0

/** Succeeds when the contender listens on `port`. Its log may be switched off. */
const startProcess = Effect.fnUntraced(function*(
  name: string,
  program: string,
  args: ReadonlyArray<string>,
  port: number
) {
  const { directory } = yield* Setup
  const logFile = join(directory, `${started++}.log`)
  const child = yield* launch(program, args, { GH_APP_WEBHOOK_SECRET: secret }, logFile)
  for (let i = 0; i < 500 && !hasEnded(child); i++) {
    if (yield* isListening(port)) return { name, pid: child.pid!, port, logFile } satisfies Contender
    yield* Effect.sleep("20 millis")
  }
  return yield* new NotStarted({ name, output: readFileSync(logFile, "utf8") })
})

const isListening = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = Net.connect(port, "127.0.0.1")
    const end = (isOpen: boolean) => {
      socket.destroy()
      resume(Effect.succeed(isOpen))
    }
    socket.on("connect", () => end(true)).on("error", () => end(false))
  })
