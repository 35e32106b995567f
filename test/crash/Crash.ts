/**
 * The proof of "answered 202 means every backend gets it": the server is killed at random moments under load and started
 * again on the same file, and at the end every delivery that was answered 202 is at every backend.
 *
 * **Details**
 *
 * One backend is well, one answers 503 at times, and one is down at times. Some kills come before the server listens. The
 * last life ends with SIGTERM, when nothing is pending.
 */
import * as Effect from "effect/Effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { comeAndGo, type CrashBackend, startCrashBackend } from "./Backends.ts"
import { noteDelivered, nothingPending } from "./Operator.ts"
import { Random } from "./Random.ts"
import { type Server, startServer } from "./Server.ts"
import { startTraffic, Targets } from "./Traffic.ts"
import { Witness } from "./Witness.ts"

export interface CrashOptions {
  readonly kills: number
  readonly seed: number
  /** Milliseconds for which nothing may arrive in the last life while something is outstanding. */
  readonly patience: number
  readonly progress?: (soFar: CrashProgress) => void
}

export interface CrashProgress {
  readonly kills: number
  /** Deliveries answered 202. */
  readonly accepted: number
  /** Arrivals of those that are still to come. */
  readonly outstanding: number
}

interface CrashReport {
  readonly kills: number
  readonly sent: number
  readonly accepted: number
  /** By status; 0: none, or cut off. */
  readonly otherReplies: Readonly<Record<number, number>>
  /** Requests that backends received. */
  readonly attempts: number
  readonly lost: ReadonlyArray<string>
  /** By backend. */
  readonly duplicates: Readonly<Record<string, number>>
  /** Arrivals that the server had called delivered before it was killed: none of these may come again. */
  readonly calledDelivered: number
  /** Things that should never happen, in words. */
  readonly wrongs: ReadonlyArray<string>
  readonly seconds: number
}

export const crash = Effect.fnUntraced(function*({ kills, patience, progress, seed }: CrashOptions) {
  const startedAt = performance.now()
  const random = new Random(seed)
  const witness = new Witness(["steady", "unready", "away"])
  const backends = yield* Effect.all([
    startCrashBackend(witness, random, { name: "steady", delay: 20 }),
    startCrashBackend(witness, random, { name: "unready", delay: 20, unready: 0.25 }),
    startCrashBackend(witness, random, { name: "away", delay: 5 })
  ])
  const [, unready, away] = backends
  const outages = yield* comeAndGo(away, random)
  const targets = new Targets()
  const traffic = yield* startTraffic({ targets, witness, random, connections: 8, pause: 60 })
  const directory = yield* temporaryDirectory
  const args = [
    ...backends.flatMap(({ url }) => ["--backend", url]),
    "--store",
    `sqlite:${join(directory, "deliveries.db")}`,
    "--enable-dynamic-backends"
  ]
  const live = startServer(args)

  for (let kill = 1; kill <= kills; kill += 1) {
    witness.life += 1
    yield* Effect.scoped(
      Effect.flatMap(live, (server) => Effect.promise(() => liveAndDie(server, { random, targets, witness, backends })))
    )
    progress?.({ kills: kill, accepted: witness.accepted, outstanding: witness.outstanding })
  }

  witness.life += 1
  const server = yield* live
  const { port } = yield* Effect.promise(() => server.listening)
  targets.add(port)
  yield* Effect.promise(async () => {
    await sleep(random.between(500, 1_000))
    await traffic.stop()
    unready.getWell()
  })
  yield* outages.stop
  yield* Effect.promise(async () => {
    await witness.allArrived(patience)
    await nothingPending(port)
  })
  const exitCode = yield* Effect.promise(() => server.stop())
  if (exitCode !== 0) witness.wrongs.push(`the last life ended with exit code ${exitCode}`)

  return {
    kills,
    sent: witness.sent,
    accepted: witness.accepted,
    otherReplies: Object.fromEntries(witness.otherReplies),
    attempts: witness.attempts,
    lost: witness.lost(),
    duplicates: witness.duplicates(),
    calledDelivered: witness.calledDelivered,
    wrongs: witness.wrongs,
    seconds: (performance.now() - startedAt) / 1_000
  } satisfies CrashReport
}, Effect.scoped)

interface Surroundings {
  readonly random: Random
  readonly targets: Targets
  readonly witness: Witness
  readonly backends: ReadonlyArray<CrashBackend>
}

/** One life, until its SIGKILL has been noticed everywhere. */
const liveAndDie = async (server: Server, { backends, random, targets, witness }: Surroundings): Promise<void> => {
  if (random.chance(0.15)) {
    await sleep(random.between(0, 600))
    await server.kill()
  } else {
    const { port } = await server.listening
    targets.add(port)
    await sleep(random.between(20, 1_000))
    // Only in some lives: it is to die at any moment, not always after this.
    if (witness.life % 3 === 0) await noteDelivered(port, backends, witness)
    await server.kill()
    targets.remove(port)
  }
  await Promise.all(backends.map((backend) => backend.quiet()))
}

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "sprayproxy-crash-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true }))
)
