/** Deliveries without end, to two backends that tell a witness. */
import * as Effect from "effect/Effect"
import { startCrashBackend } from "../../crash/Backends.ts"
import { Random } from "../../crash/Random.ts"
import { startTraffic, Targets } from "../../crash/Traffic.ts"
import { Witness } from "../../crash/Witness.ts"

/** Milliseconds: a lease outlives the forwarding timeout by 15 s, and then the backlog has to drain. */
export const patience = 90_000

export const newTraffic = Effect.fnUntraced(function*(witness: Witness, sending: (guid: string, port: number) => void) {
  const random = new Random(7)
  const backends = yield* Effect.all([
    startCrashBackend(witness, random, { name: "steady", delay: 20 }),
    startCrashBackend(witness, random, { name: "slow", delay: 300 })
  ])
  const targets = new Targets()
  const traffic = yield* startTraffic({ targets, witness, random, connections: 8, pause: 10, sending })
  const settings = ["--forwarding-timeout", "3s", "--enable-dynamic-backends"]
  const args = [...backends.flatMap(({ url }) => ["--backend", url]), ...settings]
  return { backends, targets, traffic, args }
})
