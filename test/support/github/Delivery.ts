/** A delivery as GitHub makes it: a real payload with its headers, signed. Every attempt sends the same bytes. */
import examples from "@octokit/webhooks-examples/api.github.com/index.json" with { type: "json" }
import { randomUUID } from "node:crypto"
import { headersOf, type HookIdentity, sign } from "./Headers.ts"

export type Payload = Readonly<Record<string, unknown>>

export interface Delivery {
  readonly guid: string
  readonly event: string
  readonly payload: Payload
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export interface Described {
  readonly action?: string
  readonly guid?: string
  readonly payload?: Payload
  readonly secret?: string
  readonly identity?: HookIdentity
}

const installation = { id: 2, node_id: "MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uMg==" }

/** The first published example of an event (with that action). */
export const example = (event: string, action?: string): Payload => {
  const found = examples.find(({ name }) => name === event)?.examples.find((one) =>
    action === undefined || ("action" in one && one.action === action)
  )
  if (found === undefined) throw new Error(`there is no example of ${event} ${action ?? ""}`)
  return found
}

export const newDelivery = (event: string, described: Described = {}): Delivery => {
  const { guid = randomUUID(), identity, secret: key } = described
  // Every delivery to an App names the installation. Not every example is one of an App's.
  const payload = { installation, ...described.payload ?? example(event, described.action) }
  const body = Buffer.from(JSON.stringify(payload))
  return { guid, event, payload, body, headers: headersOf({ guid, event, body, identity, signature: sign(body, key) }) }
}
