/** What the store promises to those who write deliveries down and send them. */
import type * as Effect from "effect/Effect"
import type { NumberedSettlement } from "./Row.ts"
import type { StoreUnavailable } from "./Unavailable.ts"

/** A backend as a row names it. */
export interface RowTarget {
  readonly key: string
  readonly url: string
  /** Not sent at once: nobody owns the row, and it is due. */
  readonly held: boolean
}

export interface NewDelivery {
  /** UUIDv7: ids sort by arrival. */
  readonly id: string
  readonly requestId: string
  /** `X-GitHub-Hook-ID`; empty where there was none. */
  readonly hookId: string
  readonly guid: string | undefined
  readonly event: string | undefined
  readonly method: string
  /** The request target as received. */
  readonly target: string
  /** Flat list of names and values, as they go out. */
  readonly headers: ReadonlyArray<string>
  /** One after the other. They are read, and neither kept nor changed. */
  readonly body: ReadonlyArray<Buffer>
  /** SHA-256 of the body, hexadecimal. */
  readonly bodyHash: string
  readonly targets: ReadonlyArray<RowTarget>
}

/** What was written for a `NewDelivery`. */
export interface Recorded {
  /** The delivery's own id, or that of the stored one that it is a redelivery of. */
  readonly id: string
  readonly isRedelivery: boolean
  /**
   * Keys of the backends whose rows are now pending because of this delivery and not held: the caller owns these rows. For
   * a redelivery, those that do not have it yet and on which no attempt is under way; if all have it, all.
   */
  readonly owned: ReadonlyArray<string>
}

/** `oldest`: the longest due first. `newest`: the latest arrival first, however often it was tried. */
export type ClaimOrder = "oldest" | "newest"

/** A row that the caller now owns. */
export interface Claimed {
  readonly id: string
  readonly key: string
  /** Attempts that have ended. */
  readonly tries: number
  /** Milliseconds since its present delivering began (its arrival, or when it was last asked for again), at the claim. */
  readonly age: number
  /** Length of the body. */
  readonly bodyLength: number
}

/** A delivery as it was received. */
export interface StoredDelivery extends Omit<NewDelivery, "targets" | "bodyHash" | "body"> {
  readonly receivedAt: number
  readonly body: Buffer
}

export interface DeliveryQueue {
  /**
   * Writes everything in one transaction that is on disk when it succeeds. Idempotent in the deliveries' ids and in the
   * numbers of attempts. The result is in the order of `deliveries`.
   */
  readonly write: (batch: {
    readonly deliveries: ReadonlyArray<NewDelivery>
    readonly settlements: ReadonlyArray<NumberedSettlement>
  }) => Effect.Effect<ReadonlyArray<Recorded>, StoreUnavailable>
  /** Which of these backends have rows that are due and that nobody owns. */
  readonly due: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
  /** Takes rows that are due. Those whose owner's lease is over come with `oldest` alone. */
  readonly claim: (
    key: string,
    limit: number,
    order: ClaimOrder
  ) => Effect.Effect<ReadonlyArray<Claimed>, StoreUnavailable>
  /** Undefined when it is gone. */
  readonly load: (id: string) => Effect.Effect<StoredDelivery | undefined, StoreUnavailable>
  /** Gives back every row that this process owns: they are due. */
  readonly release: Effect.Effect<void, StoreUnavailable>
}
