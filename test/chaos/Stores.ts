/** Stores that can be troubled from outside: a SQLite file on a disk that fills up, a PostgreSQL that stops or takes no writes. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { execFileSync } from "node:child_process"
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { query, startPostgres } from "../support/postgres/Postgres.ts"

/** Something that can be wrong with a store for a while. */
export interface StoreTrouble {
  readonly name: string
  readonly begin: Effect.Effect<void>
  readonly end: Effect.Effect<void>
}

export interface ChaosStore {
  readonly url: string
  /** Servers on it at once. */
  readonly replicas: number
  readonly troubles: ReadonlyArray<StoreTrouble>
}

/** On a file system of its own where one can be mounted; elsewhere the disk never fills up, and it says so. */
export const sqliteStore: Effect.Effect<ChaosStore, never, Scope.Scope> = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-chaos-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const disk = join(directory, "disk")
  mkdirSync(disk)
  const url = `sqlite:${join(disk, "deliveries.db")}`
  const isMounted = yield* Effect.acquireRelease(
    Effect.sync(() => mounted(disk)),
    (was) => Effect.sync(() => was && execFileSync("umount", ["-l", disk]))
  )
  if (!isMounted) {
    console.warn("SKIPPED: nothing can be mounted here, the disk will not be full")
    return { url, replicas: 1, troubles: [] }
  }
  const filler = join(disk, "filler")
  const full: StoreTrouble = {
    name: "full disk",
    begin: Effect.sync(() => fill(filler)),
    end: Effect.sync(() => rmSync(filler, { force: true }))
  }
  return { url, replicas: 1, troubles: [full] }
})

/** Half a GiB: deliveries of half an hour, less what has been cleaned up. */
const diskSize = "512m"

const mounted = (path: string): boolean => {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskSize},mode=0700`, "sprayproxy-chaos", path], {
      stdio: "ignore"
    })
    return true
  } catch {
    return false
  }
}

const fill = (path: string): void => {
  const file = openSync(path, "a")
  // To the last page.
  for (let size = 1024 * 1024; size >= 4_096;) {
    try {
      writeSync(file, Buffer.alloc(size))
    } catch {
      size /= 4
    }
  }
  closeSync(file)
}

/** Two replicas share it. */
export const postgresStore: Effect.Effect<ChaosStore, never, Scope.Scope> = Effect.gen(function*() {
  const postgres = yield* startPostgres
  const url = yield* postgres.createDatabase
  const admin = postgres.url("postgres")
  const takesWrites = (isReadOnly: boolean) =>
    Effect.andThen(
      query(admin, `ALTER SYSTEM SET default_transaction_read_only = ${isReadOnly ? "on" : "off"}`),
      query(admin, "SELECT pg_reload_conf()")
    ).pipe(Effect.asVoid)
  return {
    url,
    replicas: 2,
    troubles: [
      { name: "read-only database", begin: takesWrites(true), end: takesWrites(false) },
      { name: "stopped database", begin: postgres.stop, end: postgres.start },
      { name: "killed database", begin: postgres.kill, end: postgres.start }
    ]
  }
})
