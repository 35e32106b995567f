/**
 * Debian's PgBouncer in front of a test's PostgreSQL.
 *
 * **Details**
 *
 * It refuses to run as root, so root starts it as nobody. It ends with the scope, or with the tests, however they end:
 * the shell that started it waits for the end of its own input.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { identity } from "./Binaries.ts"
import { postgresUnavailable } from "./Postgres.ts"
import { freePort } from "./Server.ts"

/** Debian keeps it where only root's PATH leads. */
const environment = { PATH: `${process.env["PATH"]}:/usr/sbin` }

/**
 * Why tests with PgBouncer are skipped. Undefined if they run. The reason is also written to stderr, because a skipped
 * test is easily overlooked.
 */
export const pgBouncerUnavailable = (): string | undefined => {
  const withoutDatabase = postgresUnavailable()
  if (withoutDatabase !== undefined) return withoutDatabase
  if (spawnSync("pgbouncer", ["--version"], { env: environment }).status === 0) return undefined
  const reason = "no PgBouncer is installed (Debian's package is pgbouncer)"
  process.stderr.write(`\nSKIPPED: ${reason}\n\n`)
  return reason
}

export interface PgBouncerOptions {
  readonly pool_mode: "session" | "transaction" | "statement"
  /** Connections to the server. */
  readonly default_pool_size?: number
  readonly ignore_startup_parameters?: string
}

/** The URL of the same database through a PgBouncer of its own. */
export const startPgBouncer = (
  databaseUrl: string,
  options: PgBouncerOptions
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => start(new URL(databaseUrl), options)),
      ({ stop }) => Effect.promise(stop)
    ),
    ({ url }) => url
  )

const start = async (database: URL, options: PgBouncerOptions) => {
  const directory = mkdtempSync(Path.join(tmpdir(), "sprayproxy-pgbouncer-"))
  const port = await freePort()
  const write = (name: string, text: string) => {
    const path = Path.join(directory, name)
    writeFileSync(path, text)
    return path
  }
  const users = write("users.txt", `"${database.username}" "${database.password}"\n`)
  const settings = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "scram-sha-256",
    auth_file: users,
    // Each transaction uses another connection if there is one. By itself PgBouncer takes the one that was used last.
    server_round_robin: 1,
    // Nobody waits for a server that can't be reached.
    server_login_retry: 1,
    ...options
  }
  const file = write(
    "pgbouncer.ini",
    [
      "[databases]",
      `* = host=127.0.0.1 port=${database.port}`,
      "[pgbouncer]",
      ...Object.entries(settings).map(([name, value]) => `${name} = ${value}`)
    ].join("\n")
  )
  if (identity.uid !== undefined) {
    for (const path of [directory, users, file]) chownSync(path, identity.uid, identity.gid)
  }
  const shell = spawn("/bin/sh", ["-c", script, "pgbouncer", file], {
    ...identity,
    env: environment,
    cwd: directory,
    stdio: ["pipe", "ignore", "pipe"]
  })
  let said = ""
  shell.stderr!.on("data", (chunk) => said = (said + String(chunk)).slice(-4_000))
  const exited = once(shell, "exit")
  const deadline = performance.now() + 30_000
  // oxlint-disable-next-line no-await-in-loop -- it polls
  while (!await accepts(port)) {
    if (performance.now() > deadline) throw new Error(`PgBouncer does not start: ${said}`)
    // oxlint-disable-next-line no-await-in-loop -- it polls
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const url = new URL(database)
  url.port = String(port)
  return {
    url: url.href,
    stop: async () => {
      shell.stdin!.end()
      await exited
      rmSync(directory, { recursive: true })
    }
  }
}

/** Reads to the end of its input, then ends what it started. */
const script = `
  pgbouncer -q "$1" < /dev/null &
  cat > /dev/null
  kill -TERM $!
  wait $!
`

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1")
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })
