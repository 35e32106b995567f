/**
 * A PostgreSQL server that a test starts, stops and kills.
 *
 * **Details**
 *
 * - It listens on a free loopback port, keeps what it is told (`fsync` is on), and asks for a password.
 * - It refuses to run as root, so root starts it as nobody.
 * - It leaves nothing behind, however the tests end. A shell that waits for the end of its own input stops it and
 *   removes its files.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, readFileSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { environment, identity, own } from "./Binaries.ts"

/** The files of a cluster as `initdb` made them, and the password that the cluster asks for. */
export interface Template {
  readonly directory: string
  readonly password: string
}

export interface ServerAddress {
  readonly port: number
  readonly password: string
}

/** The URL of a database, with user and password. */
export const urlOf = ({ password, port }: ServerAddress, database: string): string =>
  `postgres://sprayproxy:${password}@127.0.0.1:${port}/${database}`

export class Server {
  readonly #binaries: string
  readonly #template: Template | undefined
  readonly #directory = mkdtempSync(Path.join(tmpdir(), "sprayproxy-postgres-"))
  readonly #password: string
  readonly #guard: ChildProcess
  #port = 0
  #process: ChildProcess | undefined

  constructor(binaries: string, template: Template | undefined) {
    this.#binaries = binaries
    this.#template = template
    this.#password = template?.password ?? randomUUID()
    own(this.#directory)
    // The shell has a process group of its own, so that a Ctrl-C that ends the tests does not end it.
    this.#guard = spawn("/bin/sh", ["-c", guardScript, "guard", this.#directory], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"]
    })
    this.#guard.stdin!.on("error", () => {})
    this.#guard.unref()
  }

  /** The address of the server itself. */
  get address(): ServerAddress {
    return { port: this.#port, password: this.#password }
  }

  pid(): number | undefined {
    return this.#process?.pid
  }

  /** Makes the server's files. If there is a template, they are copied from it, which costs a tenth. */
  async initialise(): Promise<void> {
    this.#port = await freePort()
    if (this.#template !== undefined) return this.#copy(this.#template.directory, this.#cluster)
    const passwordFile = Path.join(this.#directory, "password")
    await writeFile(passwordFile, this.#password)
    own(passwordFile)
    await promisify(execFile)(Path.join(this.#binaries, "initdb"), [
      `--pgdata=${this.#cluster}`,
      "--username=sprayproxy",
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--no-sync"
    ], { ...identity, env: environment, cwd: this.#directory })
  }

  /** Keeps the files as they are before the first start, for other servers. */
  async keepTemplate(): Promise<Template> {
    const directory = Path.join(this.#directory, "template")
    await this.#copy(this.#cluster, directory)
    return { directory, password: this.#password }
  }

  async #copy(from: string, to: string): Promise<void> {
    await promisify(execFile)("cp", ["-Rp", from, to], { ...identity, cwd: this.#directory })
  }

  async start(): Promise<void> {
    const failures: Array<string> = []
    // After a kill, its children may hold on to the files for a moment.
    for (let attempt = 0; attempt < 20; attempt += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const failure = await this.#tryToStart()
      if (failure === undefined) return
      failures.push(failure)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
    throw new Error(`PostgreSQL does not start: ${failures.at(-1)}`)
  }

  /** Returns what the server says if it ends instead of starting. */
  async #tryToStart(): Promise<string | undefined> {
    const settings = Object.entries({
      listen_addresses: "127.0.0.1",
      port: this.#port,
      unix_socket_directories: "",
      fsync: "on",
      synchronous_commit: "on",
      shared_buffers: "32MB",
      max_connections: 400,
      logging_collector: "off",
      timezone: "UTC",
      log_timezone: "UTC"
    })
    const child = spawn(
      Path.join(this.#binaries, "postgres"),
      ["-D", this.#cluster, ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      { ...identity, env: environment, cwd: this.#directory, stdio: ["ignore", "ignore", "pipe"] }
    )
    this.#guard.stdin!.write(`${child.pid}\n`)
    let said = ""
    const ready = new Promise<true>((resolve) => {
      child.stderr!.on("data", (chunk) => {
        said = (said + String(chunk)).slice(-4_000)
        if (said.includes("database system is ready to accept connections")) resolve(true)
      })
    })
    const exited = once(child, "exit").then(() => false)
    if (!await Promise.race([ready, exited])) {
      this.#guard.stdin!.write("\n")
      return said
    }
    this.#process = child
    return undefined
  }

  async end(signal: "SIGINT" | "SIGQUIT" | "SIGKILL"): Promise<void> {
    const child = this.#process
    if (child === undefined) return
    this.#process = undefined
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit")
      if (signal === "SIGKILL") {
        // Stopped first, because its children would otherwise finish their work.
        child.kill("SIGSTOP")
        for (const pid of childrenOf(child.pid!)) killed(pid)
      }
      child.kill(signal)
      await exited
    }
    this.#guard.stdin!.write("\n")
  }

  async dispose(): Promise<void> {
    // Immediately, because a regular shutdown after a hundred databases were removed takes up to a minute.
    await this.end("SIGQUIT")
    this.#guard.ref()
    const ended = once(this.#guard, "exit")
    this.#guard.stdin!.end()
    await ended
  }

  get #cluster(): string {
    return Path.join(this.#directory, "cluster")
  }
}

/**
 * Reads the server's process id whenever it changes; an empty line means none. At the end of its input it cleans up.
 */
const guardScript = `
  pid=
  while read -r line; do pid=$line; done
  if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    tries=0
    while [ $tries -lt 50 ] && kill -0 "$pid" 2>/dev/null; do tries=$((tries + 1)); sleep 0.1; done
  fi
  rm -rf "$1"
`

const childrenOf = (parent: number): ReadonlyArray<number> => {
  const processes = spawnSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" })
  if (processes.status !== 0) {
    return readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").match(/\d+/g)?.map(Number) ?? []
  }
  return processes.stdout.trim().split("\n").flatMap((line) => {
    const [pid, ppid] = line.trim().split(/\s+/).map(Number)
    return ppid === parent ? [pid!] : []
  })
}

const killed = (pid: number): void => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // The process is gone already.
  }
}

export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" ? address!.port : 0
}
