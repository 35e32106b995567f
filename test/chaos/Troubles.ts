/**
 * The troubles of a chaos run. Each kind comes in a loop of its own until it is stopped, and then all is well again.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"
import { connect } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import type { CrashBackend } from "../crash/Backends.ts"
import { listPage, type Query, redeliver } from "../crash/Operator.ts"
import type { Random } from "../crash/Random.ts"
import type { Targets } from "../crash/Traffic.ts"
import type { Witness } from "../crash/Witness.ts"
import { listen } from "../support/Backend.ts"
import { deliver, send } from "../support/GitHub.ts"
import type { Replica } from "./Replica.ts"
import type { StoreTrouble } from "./Stores.ts"

export interface Troubled {
  readonly targets: Targets
  readonly random: Random
  readonly witness: Witness
  /** One more of this kind. */
  readonly count: (name: string) => void
}

export interface Trouble {
  /** Succeeds when the last round is over and what it broke is whole. */
  readonly stop: Effect.Effect<void>
}

type Pause = (least: number, most: number) => Promise<void>

/** Does it again and again. Its pauses are cut short when it is stopped. */
const again = (
  { random }: Troubled,
  round: (pause: Pause, isOver: () => boolean) => Promise<void>
): Effect.Effect<Trouble, never, Scope.Scope> =>
  Effect.gen(function*() {
    const ending = new AbortController()
    const isOver = () => ending.signal.aborted
    const pause: Pause = (least, most) =>
      sleep(random.between(least, most), undefined, { signal: ending.signal }).catch(() => {})
    const rounds = (async () => {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      while (!isOver()) await round(pause, isOver)
    })()
    // It is looked at when it is stopped.
    rounds.catch(() => {})
    const stop = Effect.promise(() => {
      ending.abort()
      return rounds
    })
    yield* Effect.addFinalizer(() => Effect.ignoreCause(stop))
    return { stop }
  })

/** Each replica is killed or told to stop at times, and comes back; `died` is told when. */
export const deaths = (troubled: Troubled, replicas: ReadonlyArray<Replica>, died: (at: number) => void) =>
  together(replicas.map((replica) =>
    again(troubled, async (pause, isOver) => {
      const { count, random, witness } = troubled
      await pause(4_000, 20_000)
      if (isOver()) return
      if (random.chance(0.7)) {
        await replica.kill()
        count("kill")
      } else {
        const code = await replica.stop()
        if (code !== 0) witness.wrongs.push(`told to stop, it ended with exit code ${code}`)
        count("stop")
      }
      died(performance.now())
      await pause(0, 1_500)
      if (random.chance(0.2)) {
        replica.begin()
        await pause(0, 600)
        await replica.kill()
        count("kill during the start")
      }
      await startedAgain(replica, witness)
      replica.open()
    })
  ))

/** The wall clock of one replica is set, while it runs. */
export const clockSteps = (troubled: Troubled, replicas: ReadonlyArray<Replica>) =>
  again(troubled, async (pause, isOver) => {
    const { count, random } = troubled
    await pause(2_000, 15_000)
    if (isOver()) return
    random.pick(replicas).setClock(random.pick(offsets))
    count("clock step")
  })

/** A server that can't start is a fault, and not the end of the test. */
const startedAgain = async (replica: Replica, witness: Witness): Promise<void> => {
  const deadline = performance.now() + 30_000
  // oxlint-disable no-await-in-loop -- until it succeeds
  for (;;) {
    try {
      return await replica.start()
    } catch (error) {
      witness.wrongs.push(`it did not start: ${String(error)}`)
      if (performance.now() > deadline) throw error
      await sleep(1_000)
    }
  }
  // oxlint-enable no-await-in-loop
}

const minute = 60_000
const offsets = [0, 1, 10, 60, 4 * 24 * 60].flatMap((minutes) => [minutes * minute, -minutes * minute])

/** The store refuses writes, or is away, for less than a lease. */
export const ofStore = (troubled: Troubled, kinds: ReadonlyArray<StoreTrouble>) =>
  again(troubled, async (pause) => {
    const { count, random } = troubled
    await pause(5_000, 20_000)
    if (kinds.length === 0) return
    const { begin, end, name } = random.pick(kinds)
    await Effect.runPromise(begin)
    count(name)
    await pause(1_000, 9_000)
    await Effect.runPromise(end)
  })

/** A backend takes what comes, and does not answer. */
export const hangs = (troubled: Troubled, backend: CrashBackend) =>
  again(troubled, async (pause) => {
    await pause(5_000, 20_000)
    backend.hang(true)
    troubled.count("hanging backend")
    await pause(1_000, 8_000)
    backend.hang(false)
  })

/** QE's clusters come and go. */
export const registrations = Effect.fnUntraced(function*(troubled: Troubled) {
  const port = yield* listen(createServer((request, response) => {
    request.resume().once("end", () => response.writeHead(202).end())
  }))
  return yield* again(troubled, async (pause) => {
    const { count, random, targets } = troubled
    await pause(200, 2_000)
    const url = `http://127.0.0.1:${port}/guest-${Math.floor(random.between(1, 6))}`
    const method = random.chance(0.6) ? "POST" : "DELETE"
    const ttl = method === "POST" && random.chance(0.5) ? { ttl: `${Math.ceil(random.between(1, 20))}s` } : {}
    count("registration")
    await trying(send(await targets.pick(random), { method, path: "/backends", body: JSON.stringify({ url, ...ttl }) }))
  })
})

/** Somebody looks at what is stored, and asks for some of it again. */
export const operator = (troubled: Troubled) =>
  again(troubled, async (pause) => {
    const { count, random, targets, witness } = troubled
    await pause(200, 3_000)
    const port = await targets.pick(random)
    count("look")
    const query = random.pick<Query>([
      { state: "pending" },
      { state: "dead", since: "24h" },
      { event: "push", limit: "500" },
      { event: "none-of-this-name", since: "1m" }
    ])
    const found = await trying(listPage(port, query))
    if (found === undefined || found.deliveries.length === 0) return
    const { guid } = random.pick(found.deliveries)
    await trying(send(port, { method: "GET", path: `/deliveries/${guid}?body=true` }))
    if (!random.chance(0.3)) return
    witness.asksFor(guid)
    count("redelivery")
    await trying(redeliver(port, `/deliveries/${guid}/redeliver`))
  })

/** Forged, broken and endless requests. None of them may reach a backend. */
export const vandals = (troubled: Troubled) =>
  again(troubled, async (pause) => {
    const { count, random, targets, witness } = troubled
    await pause(50, 500)
    const port = await targets.pick(random)
    count("bad request")
    if (random.chance(0.5)) {
      const forged = { "x-hub-signature-256": `sha256=${"0".repeat(64)}` }
      const reply = await trying(deliver(port, `{"forged":${random.next()}}`, { headers: forged }))
      if (reply !== undefined && ![400, 503].includes(reply.status)) {
        witness.wrongs.push(`a forged delivery was answered ${reply.status}`)
      }
      return
    }
    await raw(
      port,
      random.pick([
        "POST /proxy HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
        `POST /proxy HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: sha256=${
          "0".repeat(64)
        }\r\nContent-Length: 100\r\n\r\nab`,
        "\u0016\u0003\u0001 this is no HTTP\r\n\r\n",
        "POST /proxy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
      ])
    )
  })

/** Says it, and hangs up. */
const raw = (port: number, text: string): Promise<void> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.end(text, "latin1"))
    socket.resume().on("error", () => {}).once("close", () => resolve())
    socket.setTimeout(2_000, () => socket.destroy())
  })

/** The server may be dying. */
const trying = <A>(promise: Promise<A>): Promise<A | undefined> => promise.catch(() => undefined)

const together = (troubles: ReadonlyArray<Effect.Effect<Trouble, never, Scope.Scope>>) =>
  Effect.map(Effect.all(troubles), (all): Trouble => ({
    stop: Effect.forEach(all, ({ stop }) => stop, { concurrency: "unbounded", discard: true })
  }))
