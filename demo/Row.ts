/** One request, and what has become of it so far. */
import { createHash } from "node:crypto"
import type { Delivery, Reply } from "./GitHub.ts"

/** A request as a backend received it, and the status it gave. */
export interface Arrival {
  readonly backend: string
  readonly status: number
  /** Whether the signature fits the bytes that arrived, by the backend's own check. */
  readonly verified: boolean
  readonly digest: string
  /** A time of `performance.now()`. */
  readonly at: number
}

export interface Row {
  readonly guid: string | undefined
  readonly label: string
  readonly bytes: number | undefined
  readonly arrivals: ReadonlyArray<Arrival>
  /** Undefined if somebody else than the demo sent it. */
  readonly sent: { readonly delivery: Delivery; readonly digest: string; readonly at: number } | undefined
  readonly reply: Reply | undefined
  /** Why it was refused. The reply does not say it, so it comes from the log. */
  readonly refusal: string | undefined
}

/** Whether the row is complete. */
export const isDone = ({ arrivals, refusal, reply, sent }: Row): boolean =>
  reply !== undefined && (reply.status < 300 || reply.status === 502 || refusal !== undefined) &&
  arrivals.filter(({ status }) => status < 300).length >= (sent?.delivery.expected.arrivals ?? 0)

export const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")
