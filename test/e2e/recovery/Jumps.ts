/**
 * Loaded into the server before it starts (`--import`): its time can be set forward while it runs, all at once: the wall
 * clock, the monotonic clock, and the timers that wait.
 *
 * **Details**
 *
 * Whoever started the server sends the milliseconds by which it is ahead in all, and is answered when the timers that
 * are due by then have gone off, and the server has nothing to do. So nothing is under way in the next jump, where it
 * would take too long. Short timers are left alone: they measure work, and no work is done in a jump.
 */
import { subscribe } from "node:diagnostics_channel"
import { Socket } from "node:net"
import { isMainThread, Worker } from "node:worker_threads"

/** Milliseconds: a timer that was set for less does not jump. */
const shortest = 1_000

let ahead = Number(process.env["TIME_AHEAD"] ?? 0)

const RealDate = Date
const now = () => RealDate.now() + ahead

globalThis.Date = new Proxy(RealDate, {
  construct: (_, args: ReadonlyArray<unknown>, target) =>
    Reflect.construct(RealDate, args.length === 0 ? [now()] : args, target) as object,
  apply: () => new RealDate(now()).toString(),
  get: (_, name) => name === "now" ? now : Reflect.get(RealDate, name)
})

const monotonic = performance.now.bind(performance)
performance.now = () => monotonic() + ahead

const nanoseconds = process.hrtime.bigint.bind(process.hrtime)
process.hrtime.bigint = () => nanoseconds() + BigInt(ahead) * 1_000_000n

interface Waiting {
  readonly dueAt: number
  readonly goOff: () => void
  /** The timer that takes the place of the first one, after a jump. */
  instead: NodeJS.Timeout | undefined
}

const waiting = new Map<NodeJS.Timeout, Waiting>()
const begin = globalThis.setTimeout
const end = globalThis.clearTimeout

const setTimer = (f: (...args: Array<unknown>) => void, delay = 0, ...args: Array<unknown>): NodeJS.Timeout => {
  if (!(delay >= shortest)) return begin(f, delay, ...args)
  const goOff = () => {
    waiting.delete(timer)
    f(...args)
  }
  const timer = begin(goOff, delay)
  waiting.set(timer, { dueAt: performance.now() + delay, goOff, instead: undefined })
  return timer
}

const clearTimer = (timer: NodeJS.Timeout | string | number | undefined): void => {
  const one = typeof timer === "object" ? waiting.get(timer) : undefined
  if (one !== undefined) {
    end(one.instead)
    waiting.delete(timer as NodeJS.Timeout)
  }
  end(timer)
}

Object.assign(globalThis, { setTimeout: setTimer, clearTimeout: clearTimer })

/** The timers' new times. Those that are due go off in the order in which they were due. */
const jump = (): void => {
  const inOrder = [...waiting].toSorted(([, one], [, other]) => one.dueAt - other.dueAt)
  for (const [timer, one] of inOrder) {
    end(timer)
    end(one.instead)
    one.instead = begin(one.goOff, Math.max(0, one.dueAt - performance.now()))
    if (!timer.hasRef()) one.instead.unref()
  }
}

/** Requests to backends and to GitHub, and those that have come. */
const requests = new Set<unknown>()
const requestOf = (message: unknown) => (message as { readonly request: unknown }).request
const follow = (begins: string, ends: ReadonlyArray<string>): void => {
  subscribe(begins, (message) => requests.add(requestOf(message)))
  for (const name of ends) subscribe(name, (message) => requests.delete(requestOf(message)))
}
follow("undici:request:create", ["undici:request:trailers", "undici:request:error"])
follow("http.server.request.start", ["http.server.response.finish"])

/** Questions to a SQLite thread, which answers each once. */
let awaited = 0
const { emit, postMessage } = Worker.prototype
Worker.prototype.postMessage = function(...message) {
  awaited += 1
  return postMessage.apply(this, message)
}
Worker.prototype.emit = function(this: Worker, ...event: Parameters<typeof emit>) {
  if (event[0] === "message") awaited = Math.max(0, awaited - 1)
  return emit.apply(this, event)
} as typeof emit

/**
 * PostgreSQL's sessions, and how many answers each owes: one `ReadyForQuery` for each `Sync` and each simple query.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
const sessions = new Map<Socket, { owed: number; tail: Buffer }>()
const storePort = Number(/--store=postgres[^ ]*:(\d+)\//.exec(process.argv.join(" "))?.[1])
const noBytes = Buffer.alloc(0)
const sync = Buffer.from([0x53, 0, 0, 0, 4])
const readyForQuery = Buffer.from([0x5a, 0, 0, 0, 5])

const occurrences = (bytes: Buffer, pattern: Buffer): number => {
  let count = 0
  for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + 1)) count += 1
  return count
}

const { push, write } = Socket.prototype
Socket.prototype.write = function(this: Socket, ...chunk: Array<unknown>) {
  if (this.remotePort === storePort) {
    if (!sessions.has(this)) sessions.set(this.once("close", () => sessions.delete(this)), { owed: 0, tail: noBytes })
    const bytes = Buffer.from(chunk[0] as Uint8Array)
    sessions.get(this)!.owed += occurrences(bytes, sync) + (bytes[0] === 0x51 ? 1 : 0)
  }
  return write.apply(this, chunk as Parameters<typeof write>)
}
Socket.prototype.push = function(this: Socket, ...chunk) {
  const session = sessions.get(this)
  if (session !== undefined && chunk[0] !== null) {
    const bytes = Buffer.concat([session.tail, chunk[0] as Uint8Array])
    session.owed = Math.max(0, session.owed - occurrences(bytes, readyForQuery))
    session.tail = bytes.subarray(-(readyForQuery.length - 1))
  }
  return push.apply(this, chunk)
}

const isBusy = (): boolean =>
  requests.size > 0 || awaited > 0 || Array.from(sessions.values()).some(({ owed }) => owed > 0)

/** Turns of the event loop in which nothing was done. */
const stillness = 3
const turn = 4

const whenIdle = (f: () => void, still = 0, before = performance.eventLoopUtilization()): void => {
  begin(() => {
    const after = performance.eventLoopUtilization()
    const { active } = performance.eventLoopUtilization(after, before)
    if (isBusy() || active > 1) return whenIdle(f, 0, after)
    if (still + 1 >= stillness) return f()
    whenIdle(f, still + 1, after)
  }, turn)
}

if (isMainThread && process.channel !== undefined) {
  process.on("message", (milliseconds: number) => {
    whenIdle(() => {
      ahead = milliseconds
      jump()
      whenIdle(() => process.send!(milliseconds))
    })
  })
  // It is no reason to go on living.
  process.channel.unref()
}
