/** The machine of the benchmark: what the report says of it, and which core is for whom. */
import { execFileSync, spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { cpus, release } from "node:os"
import { isExact } from "./ProcessUsage.ts"

export interface Machine {
  readonly cpu: string
  /** The number of cores that this process may use. */
  readonly cores: number
  readonly linux: string
  readonly node: string
  readonly commit: string | undefined
  /** Whether a contender has a core to itself, and load and backends have another. */
  readonly pinned: boolean
  readonly nginx: string | undefined
  /** How precisely CPU time is counted. */
  readonly cpuClock: "nanoseconds" | "ticks"
  /** The day, as in ISO 8601. */
  readonly date: string
}

/** `Cpus_allowed_list: 0-3,8` */
const allowedCores = (): ReadonlyArray<number> => {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number)
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  })
}

const runs = (command: string, ...args: ReadonlyArray<string>) => spawnSync(command, args).status === 0

/** Read once, before anything is pinned. */
const cores = process.platform === "linux" ? allowedCores() : []
const isPinned = cores.length > 1 && runs("taskset", "--version")

const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { encoding: "utf8", stdio: "pipe" }).trim()

const commitOf = (): string | undefined => {
  try {
    const isChanged = git("status", "--porcelain", "--untracked-files=no") !== ""
    return `${git("rev-parse", "--short", "HEAD")}${isChanged ? ", changed" : ""}`
  } catch {
    return undefined
  }
}

const nginxVersion = (): string | undefined =>
  /nginx\/(\S+)/.exec(spawnSync("nginx", ["-v"], { encoding: "utf8" }).stderr ?? "")?.[1]

export const look = (): Machine => ({
  cpu: cpus()[0]?.model.trim() ?? "unknown",
  cores: cores.length,
  linux: release(),
  node: process.version,
  commit: commitOf(),
  pinned: isPinned,
  nginx: nginxVersion(),
  cpuClock: isExact ? "nanoseconds" : "ticks",
  date: new Date().toISOString().slice(0, 10)
})

/** The command that runs `command` on the contenders' core, or on the core of load and backends. */
export const on = (
  core: "contender" | "load",
  command: string,
  args: ReadonlyArray<string>
): [command: string, args: ReadonlyArray<string>] =>
  isPinned ? ["taskset", ["-c", String(cores[core === "contender" ? 0 : 1]), command, ...args]] : [command, args]

/** Moves the benchmark itself off the contenders' core. */
export const stepAside = (): void => {
  if (isPinned) runs("taskset", "-a", "-p", "-c", String(cores[1]), String(process.pid))
}
