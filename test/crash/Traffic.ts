/** GitHub, on several connections: real payloads under GUIDs that are used once, to whatever servers are there. */
import examples from "@octokit/webhooks-examples/api.github.com/index.json" with { type: "json" }
import { sign } from "@octokit/webhooks-methods"
import * as Effect from "effect/Effect"
import { hash, randomUUID } from "node:crypto"
import * as Http from "node:http"
import { setTimeout as sleep } from "node:timers/promises"
import { secret, send } from "../support/GitHub.ts"
import type { Random } from "./Random.ts"
import type { Witness } from "./Witness.ts"

interface Payload {
  readonly event: string
  readonly body: string
  readonly bodyHash: string
  readonly signature: string
}

const payloads: ReadonlyArray<Payload> = await Promise.all(
  examples.flatMap(({ examples: bodies, name: event }) =>
    bodies.map(async (example): Promise<Payload> => {
      const body = JSON.stringify(example)
      return { event, body, bodyHash: hash("sha256", body, "hex"), signature: await sign(secret, body) }
    })
  )
)

/** The ports of the servers that are up. */
export class Targets {
  readonly #ports = new Set<number>()
  #someAreUp = Promise.withResolvers<void>()

  add(port: number): void {
    this.#ports.add(port)
    this.#someAreUp.resolve()
  }

  remove(port: number): void {
    // Those who wait already go on waiting for the same promise.
    if (this.#ports.delete(port) && this.#ports.size === 0) this.#someAreUp = Promise.withResolvers<void>()
  }

  /** Waits until there is one. */
  async pick(random: Random): Promise<number> {
    // oxlint-disable-next-line no-await-in-loop -- it may be gone again by then
    while (this.#ports.size === 0) await this.#someAreUp.promise
    return random.pick([...this.#ports])
  }
}

export interface TrafficOptions {
  readonly targets: Targets
  readonly witness: Witness
  readonly random: Random
  readonly connections: number
  /** Milliseconds between a reply and the next delivery on its connection, at most. */
  readonly pause: number
  /** Called with each GUID and the port that it goes to. */
  readonly sending?: (guid: string, port: number) => void
}

/** Sends until it is stopped; `stop` waits for the last replies. */
export const startTraffic = Effect.fnUntraced(function*(options: TrafficOptions) {
  const { connections, pause, random, sending, targets, witness } = options
  const ending = { stopped: false }

  const connection = async () => {
    const agent = new Http.Agent({ keepAlive: true, maxSockets: 1 })
    // oxlint-disable no-await-in-loop -- a connection carries one delivery after the other
    while (!ending.stopped) {
      const port = await targets.pick(random)
      const guid = randomUUID()
      const { body, bodyHash, event, signature } = random.pick(payloads)
      witness.sending(guid, bodyHash)
      sending?.(guid, port)
      try {
        const headers = {
          "content-type": "application/json",
          "user-agent": "GitHub-Hookshot/044aadd",
          "x-github-delivery": guid,
          "x-github-event": event,
          "x-github-hook-id": "292430182",
          "x-hub-signature-256": signature
        }
        const { status, text } = await send(port, { agent, body, headers })
        witness.answered(guid, status, text)
      } catch {
        witness.answered(guid, 0, "")
        // Refused at once, until whoever has killed it says so.
        await sleep(5)
      }
      await sleep(random.between(0, pause))
    }
    // oxlint-enable no-await-in-loop
    agent.destroy()
  }

  const all = Promise.all(Array.from({ length: connections }, connection))
  yield* Effect.addFinalizer(() => Effect.sync(() => ending.stopped = true))
  return {
    stop: async () => {
      ending.stopped = true
      await all
    }
  }
})
