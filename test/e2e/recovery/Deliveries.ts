/** Many deliveries as an App gets them, no two with the same bytes, and what became of them at the backends. */
import type { TestBackend } from "../../support/Backend.ts"
import { type Delivery, example, newDelivery, type Payload } from "../../support/github/Delivery.ts"

const kinds: ReadonlyArray<readonly [event: string, action?: string]> = [
  ["push"],
  ["pull_request", "opened"],
  ["issue_comment", "created"],
  ["check_run", "completed"],
  ["check_suite", "requested"],
  ["installation", "created"]
]

let made = 0

export const newDeliveries = (count: number): ReadonlyArray<Delivery> =>
  Array.from({ length: count }, () => {
    made += 1
    const [event, action] = kinds[made % kinds.length]!
    const payload = example(event, action)
    const sender = { ...payload["sender"] as Payload, id: made }
    return newDelivery(event, { payload: { ...payload, sender } })
  })

/** How often a backend has got each delivery. */
const countsOf = ({ received }: TestBackend): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const { headers } of received) {
    const guid = String(headers["x-github-delivery"])
    counts.set(guid, (counts.get(guid) ?? 0) + 1)
  }
  return counts
}

export interface Arrivals {
  /** Of which a backend has none, by GUID. */
  readonly lost: ReadonlyArray<string>
  /** Of which a backend has more than one. */
  readonly duplicates: ReadonlyArray<string>
  /** Of which a backend has other bytes, or another signature. */
  readonly altered: ReadonlyArray<string>
}

export const arrivalsOf = (deliveries: ReadonlyArray<Delivery>, backends: ReadonlyArray<TestBackend>): Arrivals => {
  const lost: Array<string> = []
  const duplicates: Array<string> = []
  const altered: Array<string> = []
  const sent = new Map(deliveries.map((delivery) => [delivery.guid, delivery]))
  for (const backend of backends) {
    const counts = countsOf(backend)
    for (const guid of sent.keys()) {
      const count = counts.get(guid) ?? 0
      if (count === 0) lost.push(guid)
      if (count > 1) duplicates.push(guid)
    }
    for (const { body, headers } of backend.received) {
      const guid = String(headers["x-github-delivery"])
      const delivery = sent.get(guid)
      const isSame = delivery !== undefined && body.equals(delivery.body) &&
        headers["x-hub-signature-256"] === delivery.headers["X-Hub-Signature-256"]
      if (!isSame) altered.push(guid)
    }
  }
  return { lost, duplicates, altered }
}

/** How many deliveries every backend has. */
export const arrived = (deliveries: ReadonlyArray<Delivery>, backends: ReadonlyArray<TestBackend>): number => {
  const counts = backends.map(countsOf)
  return deliveries.filter(({ guid }) => counts.every((count) => count.has(guid))).length
}
