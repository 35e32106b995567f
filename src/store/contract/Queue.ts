/** The part of the store's contract for writing deliveries down and sending them. */
import type * as Effect from "effect/Effect"
import type { NumberedSettlement } from "./Row.ts"
import type { StoreUnavailable } from "./Unavailable.ts"

/** A backend in a row. */
export interface RowTarget {
  readonly key: string
  readonly url: string
  /** The delivery is held: nobody owns the row, and it is due. */
  readonly held: boolean
}

/** A delivery that is to be written, with the backends that it goes to. */
export interface NewDelivery {
  /** UUIDv7: ids sort by arrival. */
  readonly id: string
  readonly requestId: string
  /** `X-GitHub-Hook-ID`. Empty if there was none. */
  readonly hookId: string
  readonly guid: string | undefined
  readonly event: string | undefined
  readonly method: string
  /** The request target as received. */
  readonly target: string
  /** A flat list of names and values, as they go out. */
  readonly headers: ReadonlyArray<string>
  /** The body's chunks in their order. The store only reads these buffers, and holds none of them after the write. */
  readonly body: ReadonlyArray<Buffer>
  /** SHA-256 of the body, hexadecimal. */
  readonly bodyHash: string
  readonly targets: ReadonlyArray<RowTarget>
}

/** The result of writing a `NewDelivery`. */
export interface Recorded {
  /** The delivery's own id, or that of the stored one that it is a redelivery of. */
  readonly id: string
  readonly isRedelivery: boolean
  /**
   * Keys of the backends whose rows are now pending because of this delivery and not held. The caller owns these rows.
   * For a redelivery they are the backends that do not have it yet and on which no attempt is under way. If all have
   * it, they are all backends.
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
  /**
   * Milliseconds at the claim since the row's present delivering began: since its arrival, or since it was last asked
   * for again.
   */
  readonly age: number
  /** The length of the body in bytes. */
  readonly bodyLength: number
}

/** A delivery as it was received. */
export interface StoredDelivery extends Omit<NewDelivery, "targets" | "bodyHash" | "body"> {
  readonly receivedAt: number
  readonly body: Buffer
}

/** The operations for writing and sending deliveries. */
export interface DeliveryQueue {
  /**
   * Writes everything in one transaction, which is on disk when this succeeds. It is idempotent in the deliveries' ids
   * and in the numbers of attempts. The result is in the order of `deliveries`.
   */
  readonly write: (batch: {
    readonly deliveries: ReadonlyArray<NewDelivery>
    readonly settlements: ReadonlyArray<NumberedSettlement>
  }) => Effect.Effect<ReadonlyArray<Recorded>, StoreUnavailable>
  /** Which of these backends have rows that are due and that nobody owns. */
  readonly due: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
  /** Claims rows that are due. Rows whose owner's lease is over are claimed only with `oldest`. */
  readonly claim: (
    key: string,
    limit: number,
    order: ClaimOrder
  ) => Effect.Effect<ReadonlyArray<Claimed>, StoreUnavailable>
  /** Undefined if it is no longer kept. */
  readonly load: (id: string) => Effect.Effect<StoredDelivery | undefined, StoreUnavailable>
  /** Gives back every row that this process owns. Those rows are due then. */
  readonly release: Effect.Effect<void, StoreUnavailable>
}
