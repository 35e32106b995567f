/**
 * Everything at once: load, kills, clock steps, a store that refuses writes, backends that are unready, away, refusing or
 * hanging, registrations, an operator who looks and asks, and senders who mean no good. At the end every delivery that was
 * answered 202 is at every backend, and each one that came twice has an explanation.
 *
 * **Details**
 *
 * The forwarding timeout is shorter than the reply deadline, so that no delivery that goes without the store is answered
 * 202. One of the backends is registered over HTTP, once, and has to be known to every life of the server.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { setTimeout as sleep } from "node:timers/promises"
import { comeAndGo, startCrashBackend } from "../crash/Backends.ts"
import { listPage } from "../crash/Operator.ts"
import { Random } from "../crash/Random.ts"
import { startTraffic, Targets } from "../crash/Traffic.ts"
import { Witness } from "../crash/Witness.ts"
import { send } from "../support/GitHub.ts"
import { eventually } from "../support/eventually.ts"
import { Replica } from "./Replica.ts"
import type { ChaosStore } from "./Stores.ts"
import * as Troubles from "./Troubles.ts"

export interface ChaosOptions {
  readonly store: Effect.Effect<ChaosStore, never, Scope.Scope>
  /** Milliseconds of trouble. */
  readonly duration: number
  readonly seed: number
  /** Milliseconds for which nothing may arrive at the end while something is outstanding. */
  readonly patience: number
  readonly progress?: (soFar: ChaosProgress) => void
}

export interface ChaosProgress {
  readonly accepted: number
  readonly outstanding: number
  readonly troubles: Readonly<Record<string, number>>
  readonly wrongs: ReadonlyArray<string>
}

export interface ChaosReport {
  readonly seconds: number
  /** How often each went wrong. */
  readonly troubles: Readonly<Record<string, number>>
  readonly sent: number
  readonly accepted: number
  /** By status; 0: none, or cut off. */
  readonly otherReplies: Readonly<Record<number, number>>
  /** Requests that backends received. */
  readonly attempts: number
  readonly lost: ReadonlyArray<string>
  /** Deliveries that came again, by why. */
  readonly duplicates: Readonly<Record<string, number>>
  /** Things that should never happen, in words, such as a delivery that came again without an explanation. */
  readonly wrongs: ReadonlyArray<string>
  /** The most memory that a server took, in MiB; 0 where the system does not tell. */
  readonly peakMemory: number
}

export const chaos = Effect.fnUntraced(
  function*(options: ChaosOptions): Effect.fn.Return<ChaosReport, never, Scope.Scope> {
    const startedAt = performance.now()
    const random = new Random(options.seed)
    let lastDeath = -Infinity
    const names = ["steady", "unready", "away", "refusing", "hanging", "registered"]
    // A backend may read what a server had sent shortly before it died: later still where this process can't keep up.
    const lag = monitorEventLoopDelay()
    lag.enable()
    const witness = new Witness(names, (_, before) => lastDeath >= before.at - 1_000 - lag.max / 1e6)
    const [steady, unready, away, refusing, hanging, registered] = yield* Effect.all([
      startCrashBackend(witness, random, { name: "steady", delay: 20 }),
      startCrashBackend(witness, random, { name: "unready", delay: 20, unready: 0.25 }),
      startCrashBackend(witness, random, { name: "away", delay: 5 }),
      startCrashBackend(witness, random, { name: "refusing", delay: 5, refusals: 3 }),
      startCrashBackend(witness, random, { name: "hanging", delay: 5 }),
      startCrashBackend(witness, random, { name: "registered", delay: 20 })
    ])
    const store = yield* options.store
    const targets = new Targets()
    const counts: Record<string, number> = {}
    const count = (name: string) => {
      counts[name] = (counts[name] ?? 0) + 1
    }

    const args = [
      ...[steady, unready, away, refusing, hanging].flatMap(({ url }) => ["--backend", url]),
      `--store=${store.url}`,
      "--enable-dynamic-backends",
      "--forwarding-timeout=7s",
      "--retain-delivered=60s"
    ]
    const replicas = yield* Effect.forEach(Array.from({ length: store.replicas }), () =>
      Effect.acquireRelease(
        Effect.sync(() => new Replica(args, targets)),
        (replica) => Effect.promise(() => replica.kill())
      ))
    yield* Effect.promise(async () => {
      await Promise.all(replicas.map((replica) => replica.start()))
      const body = JSON.stringify({ url: registered.url })
      const { status } = await send(replicas[0]!.port, { method: "POST", path: "/backends", body })
      if (status !== 200) throw new Error(`the backend could not be registered: ${status}`)
      // The other replica sees it within a second.
      await eventually(async () => {
        const listed = await Promise.all(replicas.map(({ port }) => send(port, { method: "GET", path: "/backends" })))
        return listed.every(({ text }) => text.includes(registered.url))
      })
      for (const replica of replicas) targets.add(replica.port)
    })
    const traffic = yield* startTraffic({ targets, witness, random, connections: 8, pause: 250 })
    const outages = yield* comeAndGo(away, random)

    const troubled = { targets, random, witness, count }
    const troubles = yield* Effect.all([
      Troubles.deaths(troubled, replicas, (at) => lastDeath = at),
      Troubles.clockSteps(troubled, replicas),
      Troubles.ofStore(troubled, store.troubles),
      Troubles.hangs(troubled, hanging),
      Troubles.registrations(troubled),
      Troubles.operator(troubled),
      Troubles.vandals(troubled)
    ])
    yield* Effect.promise(async () => {
      for (const end = startedAt + options.duration; performance.now() < end;) {
        // oxlint-disable-next-line no-await-in-loop -- it tells how far it is
        await sleep(Math.min(10_000, Math.max(0, end - performance.now())))
        const { accepted, outstanding, wrongs } = witness
        options.progress?.({ accepted, outstanding, wrongs, troubles: counts })
      }
    })
    for (const trouble of troubles) yield* trouble.stop
    yield* outages.stop
    yield* Effect.promise(async () => {
      await traffic.stop()
      unready.getWell()
      await Promise.all(replicas.filter((replica) => !replica.isUp).map((replica) => replica.start()))
      await witness.allArrived(options.patience)
      await settled(replicas[0]!.port, options.patience, witness)
      const codes = await Promise.all(replicas.map((replica) => replica.stop()))
      for (const code of codes) if (code !== 0) witness.wrongs.push(`the last life ended with exit code ${code}`)
    })
    return {
      seconds: (performance.now() - startedAt) / 1_000,
      troubles: counts,
      sent: witness.sent,
      accepted: witness.accepted,
      otherReplies: Object.fromEntries(witness.otherReplies),
      attempts: witness.attempts,
      lost: witness.lost(),
      duplicates: Object.fromEntries(witness.explanations),
      wrongs: witness.wrongs,
      peakMemory: Math.max(...replicas.map(({ peakMemory }) => peakMemory))
    }
  }
)

/** Waits until nothing is pending. Deliveries that failed often are sent again after minutes. */
const settled = async (port: number, patience: number, witness: Witness): Promise<void> => {
  const deadline = performance.now() + patience
  // oxlint-disable no-await-in-loop -- it polls
  while (performance.now() < deadline) {
    if ((await listPage(port, { state: "pending" })).deliveries.length === 0) return
    await sleep(250)
  }
  // oxlint-enable no-await-in-loop
  witness.wrongs.push("something is still pending at the end")
}
