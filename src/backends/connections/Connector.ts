/**
 * Connects to a host: to the first of its addresses that answers, and with TLS if it is asked for.
 *
 * **Details**
 *
 * It follows RFC 8305. The address families take turns. If an address has not answered after 250 ms, the next one is
 * tried beside it; if it has failed, at once. The address that answers first is taken. `net.connect` would give an
 * address up after 250 ms and never come back to it. An address that is merely far away is then not reached if the
 * address after it is dead.
 *
 * The address that was taken goes first for ten minutes, so that a dead one before it is not waited for again.
 *
 * **Gotchas**
 *
 * TLS begins only with the address that was taken. If its handshake fails, no other address is tried.
 */
import * as net from "node:net"
import * as Undici from "undici"
import { portOf } from "../../domain/Origin.ts"
import type { Timers } from "../../runtime/Timers.ts"

/** The part of a connector that all its connections share. */
export interface ConnectorOptions {
  readonly lookup: net.LookupFunction
  readonly timers: Timers["Service"]
  /** Milliseconds until an address has to have answered. */
  readonly timeout: number
  /** Why an address may not be connected to. One refused address fails the connection, whatever the others are. */
  readonly check?: ((address: string) => Error | undefined) | undefined
  /** Makes TLS out of a connection (its `httpSocket`). It is asked for each connection. */
  readonly secure?: (() => Undici.buildConnector.connector) | undefined
}

/** Milliseconds after which the next address is tried beside one that has not answered. */
const headStart = 250
/** Milliseconds for which the address that answered first goes first. */
const preferredFor = 600_000

const keepAliveDelay = 60_000

/** A server's name in TLS has no dot at its end (RFC 6066 §3). Undefined for an address, which is no name there. */
export const serverName = (hostname: string): string | undefined =>
  net.isIP(hostname) === 0 && !hostname.startsWith("[") ? hostname.replace(/\.$/, "") : undefined

/** A connector for one host. */
export const make = (options: ConnectorOptions): Undici.buildConnector.connector => {
  const { lookup, secure, timers } = options
  const check = options.check ?? (() => undefined)
  let preferred = { address: "", until: 0 }

  const inOrder = (found: ReadonlyArray<string>): ReadonlyArray<string> => {
    const { address, until } = preferred
    return timers.now() < until && found.includes(address)
      ? [address, ...found.filter((other) => other !== address)]
      : found
  }
  const prefer = (address: string, found: ReadonlyArray<string>) => {
    if (address === found[0]) preferred = { address: "", until: 0 }
    else if (address !== preferred.address || timers.now() >= preferred.until) {
      preferred = { address, until: timers.now() + preferredFor }
    }
  }

  return ({ hostname, port, ...target }, callback) => {
    const protocol = secure === undefined ? "http:" : "https:"
    const race = new Race(options, portOf({ port, protocol }), (error, socket) => {
      if (error !== null) return callback(error, null)
      if (secure === undefined) return callback(null, socket)
      const servername = serverName(hostname)
      // Errors of this socket are reported as those of the TLS connection around it.
      socket.on("error", () => {})
      secure()({
        ...target,
        hostname,
        port,
        httpSocket: socket,
        ...(servername === undefined ? {} : { servername })
      }, callback)
    })
    const run = (found: ReadonlyArray<string>) => {
      const refused = found.map(check).find((error) => error !== undefined)
      if (refused !== undefined) return race.end(refused)
      race.run(inOrder(found), (address) => prefer(address, found))
    }
    if (net.isIP(hostname) !== 0) return queueMicrotask(() => run([hostname]))
    lookup(hostname, { all: true }, (error, found) => {
      if (error !== null) return race.end(error)
      run(typeof found === "string" ? [found] : takingTurns(found.map(({ address }) => address)))
    })
  }
}

/** RFC 8305 §4: the family of the first address begins, then the families alternate. */
const takingTurns = (addresses: ReadonlyArray<string>): ReadonlyArray<string> => {
  const family = net.isIP(addresses[0] ?? "")
  const first = addresses.filter((address) => net.isIP(address) === family)
  const second = addresses.filter((address) => net.isIP(address) !== family)
  return Array.from(
    { length: Math.max(first.length, second.length) },
    (_, at) => [...first.slice(at, at + 1), ...second.slice(at, at + 1)]
  ).flat()
}

type Done = (...result: [error: null, socket: net.Socket] | [error: Error, socket: null]) => void

/** Connects to several addresses of one host, until one of them answers. */
class Race {
  readonly #timers: Timers["Service"]
  readonly #port: number
  readonly #done: Done
  readonly #cancelTimeout: () => void
  readonly #underWay = new Set<net.Socket>()
  #waiting: ReadonlyArray<string> = []
  #onReached = (_address: string): void => {}
  #cancelNext = () => {}
  #failure: Error | undefined
  #ended = false

  constructor({ timeout, timers }: ConnectorOptions, port: number, done: Done) {
    this.#timers = timers
    this.#port = port
    this.#done = done
    this.#cancelTimeout = timers.after(
      timeout,
      () => this.end(new Undici.errors.ConnectTimeoutError(`no connection within ${timeout} ms`))
    )
  }

  run(addresses: ReadonlyArray<string>, onReached: (address: string) => void): void {
    if (this.#ended) return
    this.#waiting = addresses
    this.#onReached = onReached
    this.#next()
  }

  end(error: Error): void {
    if (this.#stop()) this.#done(error, null)
  }

  #next(): void {
    this.#cancelNext()
    const [address, ...waiting] = this.#waiting
    if (address === undefined) return
    this.#waiting = waiting
    const socket = net.connect({
      host: address,
      port: this.#port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveDelay
    })
    const onConnect = () => {
      socket.off("error", onError)
      this.#underWay.delete(socket)
      if (!this.#stop()) return
      this.#onReached(address)
      this.#done(null, socket)
    }
    const onError = (error: Error) => {
      this.#underWay.delete(socket)
      if (this.#ended) return
      this.#failure ??= error
      if (this.#waiting.length > 0) this.#next()
      else if (this.#underWay.size === 0) this.end(this.#failure)
    }
    socket.once("connect", onConnect).on("error", onError)
    this.#underWay.add(socket)
    if (waiting.length > 0) this.#cancelNext = this.#timers.after(headStart, () => this.#next())
  }

  /** Whether this call has ended the race. */
  #stop(): boolean {
    if (this.#ended) return false
    this.#ended = true
    this.#cancelTimeout()
    this.#cancelNext()
    for (const socket of this.#underWay) socket.destroy()
    return true
  }
}
