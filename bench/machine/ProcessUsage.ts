/** The resources that a process has used, from /proc. */
import { existsSync, readdirSync, readFileSync } from "node:fs"

/** Microseconds of one kernel tick: USER_HZ is 100 on every Linux. */
const tick = 10_000

/** Whether the kernel counts CPU time to the nanosecond (`CONFIG_SCHED_INFO`), and not only in ticks. */
export const isExact = existsSync("/proc/self/schedstat")

/** User and system time of all threads so far, in µs. */
export const cpuTime = (pid: number): number => {
  // The sum misses threads that have ended. Node ends none of its own.
  if (isExact) return ofThreads(pid, 0)
  const [, fields = ""] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")
  const [user = "0", system = "0"] = fields.split(" ").slice(11)
  return (Number(user) + Number(system)) * tick
}

/** Microseconds for which the threads could have run so far and were not let. 0 if the kernel does not say. */
export const waitTime = (pid: number): number => isExact ? ofThreads(pid, 1) : 0

/** A line is `123456 7890 42`: nanoseconds on a core, nanoseconds of waiting for one, and how often. */
const ofThreads = (pid: number, field: 0 | 1): number =>
  readdirSync(`/proc/${pid}/task`).reduce(
    (sum, thread) =>
      sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[field]) / 1_000,
    0
  )

/** Resident memory in MiB. */
export const rss = (pid: number): number => status(pid, "VmRSS")

/** The most resident memory so far, in MiB. */
export const peakRss = (pid: number): number => status(pid, "VmHWM")

const status = (pid: number, name: string): number => {
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
  return Number(kibibytes ?? Number.NaN) / 1_024
}

/** The most files and connections that this process, and each that it starts, may have open. */
export const maxOpenFiles = (): number =>
  Number(/^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? 1_024)
