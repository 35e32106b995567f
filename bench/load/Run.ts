/** Makes a number of requests to one port, in a closed loop or at a fixed rate. */
import { setInterval as every } from "node:timers/promises"
import type { Backend } from "./Backends.ts"
import { Connection, type ConnectionOwner } from "./Connection.ts"
import type { RunRequest, RunResult } from "./Messages.ts"
import { type Template, templateOf } from "./Payloads.ts"

const templates = new Map<string, Template>()
const pools = new Map<number, Array<Connection>>()
let nextId = 1

export const run = async (request: RunRequest, backends: ReadonlyArray<Backend>): Promise<RunResult> => {
  const { count, forged, payload, port } = request
  const key = `${payload} ${forged}`
  const template = templates.get(key) ?? templateOf(payload, forged)
  templates.set(key, template)
  const firstId = nextId
  nextId += count
  for (const backend of backends) backend.expect(firstId, count, template.bodyLength)
  const loop = new Loop(request, template, firstId, pools.get(port) ?? [])
  pools.set(port, loop.free)
  await loop.run()
  return { ...loop.result(), ...await arrivals(loop.status, request, backends) }
}

export const disconnect = (): void => {
  for (const pool of pools.values()) for (const connection of pool) connection.close()
  pools.clear()
}

class Loop implements ConnectionOwner {
  readonly #request: RunRequest
  readonly #template: Template
  readonly #firstId: number
  readonly #due: Float64Array
  readonly #latency: Float64Array
  readonly #held: Float64Array
  readonly #errors: Record<string, number> = {}
  readonly #isClosed: boolean
  readonly #busy = new Set<Connection>()
  readonly #finished = Promise.withResolvers<void>()
  readonly #start = performance.now()
  readonly status: Uint16Array
  readonly free: Array<Connection>
  /** The next request to be sent. Beside it, the next that will be due. */
  #next = 0
  #answered = 0
  #opened = 0
  #elapsed = 0

  constructor(request: RunRequest, template: Template, firstId: number, free: Array<Connection>) {
    this.#request = request
    this.#isClosed = request.due === undefined
    this.#template = template
    this.#firstId = firstId
    this.#due = request.due ?? new Float64Array(request.count)
    this.#held = new Float64Array(request.count)
    this.#latency = new Float64Array(request.count)
    this.status = new Uint16Array(request.count)
    this.free = free
  }

  async run(): Promise<void> {
    const { connections, count, limit } = this.#request
    const giveUp = setTimeout(() => this.#giveUp(), limit)
    if (this.#isClosed) { for (let i = 0; i < Math.min(connections, count); i++) this.#sendNext() }
    else this.#sendDue()
    const endVigil = stayAwake()
    await this.#finished.promise
    endVigil()
    clearTimeout(giveUp)
  }

  result() {
    return {
      due: this.#due,
      latency: this.#latency,
      status: this.status,
      errors: this.#errors,
      elapsed: this.#elapsed,
      held: this.#held,
      opened: this.#opened
    }
  }

  answered(connection: Connection, status: number, isOpen: boolean): void {
    if (isOpen) this.free.push(connection)
    this.#done(connection, status)
  }

  broke(connection: Connection, code: string): void {
    this.#errors[code] = (this.#errors[code] ?? 0) + 1
    this.#done(connection, 0)
  }

  #done(connection: Connection, status: number): void {
    const { index } = connection
    this.#busy.delete(connection)
    this.#elapsed = performance.now() - this.#start
    this.#latency[index] = this.#elapsed - this.#due[index]!
    this.status[index] = status
    this.#answered += 1
    if (this.#answered === this.#request.count) return this.#finished.resolve()
    if (this.#isClosed) this.#sendNext()
  }

  #sendNext(): void {
    const index = this.#next
    if (index >= this.#request.count) return
    this.#next += 1
    const now = performance.now() - this.#start
    if (this.#isClosed) this.#due[index] = now
    this.#held[index] = now - this.#due[index]!
    let connection = this.free.pop()
    while (connection !== undefined && !connection.isOpen) connection = this.free.pop()
    if (connection === undefined) {
      connection = new Connection(this.#request.port)
      this.#opened += 1
    }
    this.#busy.add(connection)
    connection.send(this.#template, index, this.#firstId + index, this)
  }

  /** Sends all that is due by the clock, however many requests still wait: no answer can hold back a request. */
  readonly #sendDue = (): void => {
    const { connections, count } = this.#request
    const now = performance.now() - this.#start
    while (this.#next < count && this.#due[this.#next]! <= now && this.#busy.size < connections) this.#sendNext()
    if (this.#next >= count) return
    // A timer may be a millisecond late, and that would count as latency.
    if (this.#due[this.#next]! - now > 3) setTimeout(this.#sendDue, 1)
    else setImmediate(this.#sendDue)
  }

  #giveUp(): void {
    this.#errors["no answer in time"] = this.#request.count - this.#answered
    for (const connection of this.#busy) connection.close()
    this.#next = this.#request.count
    this.#finished.resolve()
  }
}

/**
 * Keeps the load's core awake until the function that it returns is called. Whoever writes to a socket of a core that
 * sleeps pays for waking it, which takes 50 µs in a virtual machine. A slow contender finds it asleep more often.
 */
const stayAwake = (): () => void => {
  let isWanted = true
  const turn = () => {
    if (isWanted) setImmediate(turn)
  }
  turn()
  return () => {
    isWanted = false
  }
}

const isRefused = (status: number) => status === 0 || status === 503 || (status >= 400 && status < 500)

/** Checks that requests that were not refused reached their backends, once, and that refused ones reached none. */
const arrivals = async (
  status: Uint16Array,
  { reached }: RunRequest,
  backends: ReadonlyArray<Backend>
) => {
  const expected = status.reduce((sum, one) => isRefused(one) ? sum : sum + 1, 0)
  const isComplete = () => reached.every((place) => backends[place]!.arrived >= expected)
  // Attempts go on after a 202.
  await until(isComplete, 15_000)
  let [missing, duplicates, strays] = [0, 0, 0]
  for (const [place, backend] of backends.entries()) {
    const isReached = reached.includes(place)
    for (let i = 0; i < status.length; i++) {
      const times = backend.arrivalsOf(i)
      if (times > 1) duplicates += 1
      if (times === 0 && isReached && !isRefused(status[i]!)) missing += 1
      if (times > 0 && status[i]! >= 400 && status[i]! < 500) strays += 1
    }
  }
  return { missing, duplicates, strays, altered: backends.reduce((sum, { altered }) => sum + altered, 0) }
}

/** Waits until the condition holds, or `atMost` milliseconds. */
const until = async (condition: () => boolean, atMost: number): Promise<void> => {
  const start = performance.now()
  if (condition()) return
  for await (const _ of every(20)) if (condition() || performance.now() - start > atMost) return
}
