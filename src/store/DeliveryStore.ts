/**
 * Where deliveries are written down in durable mode, with what each backend has had of them.
 *
 * **Details**
 *
 * - A delivery has a row for each backend it goes to. A row that is `pending` is due at some time of the store's clock;
 *   whoever claims it owns it for the length of a lease, and after that it is due again.
 * - Deliveries are recognised by their fingerprint: hook id, GUID and the SHA-256 of the body. Two GitHub Apps share GUIDs,
 *   and headers are not signed.
 * - Bodies and headers are kept byte for byte. Other texts from outside may lose what is no Unicode, or NUL, or all but their
 *   beginning: names after 200 characters.
 * - All times that go in or out are Unix times in milliseconds, for people to read. All that is decided by time is decided by
 *   the store's clock: what a process has to decide by comes as an age, from which it counts on with a clock that never steps.
 *
 * **Gotchas**
 *
 * Every operation may fail with `StoreUnavailable` at any time, and after a failed `write` it is open whether it happened.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Schema from "effect/Schema"
import type { Outcome } from "../domain/Outcome.ts"

/**
 * What a failure is the fault of.
 *
 * - `away`: the store. It can't be reached, or takes nothing now.
 * - `content`: what it was to take, which would be refused each time. The store is well.
 * - `question`: what it was asked, which took too long or too much. Nothing else is.
 */
const storeFaults = ["away", "content", "question"] as const
export type StoreFault = typeof storeFaults[number]

/** The store did not do what it was told. `reason` names no address and no secret. */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  reason: Schema.String,
  fault: Schema.Literals(storeFaults).pipe(Schema.withConstructorDefault(Effect.succeed("away")))
}) {
  /** It is told where it happens. */
  override readonly [ErrorReporter.ignore] = true
  override get message() {
    return `the store did not take it: ${this.reason}`
  }
}

/** The store can't be used at all: not ours, locked, corrupt, too new, unsafe. Ends the start. */
export class StoreUnusable extends Schema.TaggedError<StoreUnusable>()("StoreUnusable", {
  reason: Schema.String
}) {
  override get message() {
    return `the store can't be used: ${this.reason}`
  }
}

/**
 * What has become of a delivery at one backend. `cancelled`: the backend was unregistered. `dead`: too old to be sent
 * again, kept and shown.
 */
export const rowStates = ["pending", "delivered", "rejected", "dead", "cancelled"] as const
export type RowState = typeof rowStates[number]

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

/** One attempt, as it is kept. */
export interface StoredAttempt {
  /** When it ended. */
  readonly at: number
  readonly outcome: Outcome
  readonly status: number | undefined
  /** Milliseconds. */
  readonly latency: number
  readonly error: string | undefined
  /** The first kB of an answer that is not 2xx. */
  readonly answer: string | undefined
}

/** What became of one row that we own. */
export interface Settlement {
  readonly id: string
  readonly key: string
  /** Undefined: it was given back without an attempt. */
  readonly attempt: StoredAttempt | undefined
  /**
   * `retryIn`: milliseconds from now until the row is due again. A row that somebody else owns by now or that is no longer
   * pending takes `delivered` and `rejected` and ignores all else; the attempt is kept in any case. What is said of a row
   * that is not there is ignored altogether: the write of its delivery may have failed.
   */
  readonly become: "delivered" | "rejected" | "dead" | { readonly retryIn: number }
}

/** A settlement on its way to the store. */
export interface NumberedSettlement extends Settlement {
  /** Tells its attempt from others of its row: one that is written again under the same number changes nothing. */
  readonly n: number
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

export interface RowView {
  readonly key: string
  readonly url: string
  readonly state: RowState
  readonly since: number
  readonly tries: number
  /** For `pending` rows. */
  readonly dueAt: number | undefined
  /** An attempt is under way. */
  readonly underWay: boolean
  readonly lastOutcome: Outcome | undefined
  readonly settledAt: number | undefined
}

export interface DeliveryView {
  readonly id: string
  readonly requestId: string
  readonly hookId: string
  readonly guid: string | undefined
  readonly event: string | undefined
  readonly receivedAt: number
  readonly bodyLength: number
  /** Whether headers and body are still there. */
  readonly hasBody: boolean
  readonly rows: ReadonlyArray<RowView>
}

export interface DeliveryFilter {
  /** A delivery matches if one of its rows matches `state` and `backend` together. */
  readonly state?: RowState | undefined
  /** A backend's key. */
  readonly backend?: string | undefined
  readonly event?: string | undefined
  readonly guid?: string | undefined
  /** Received at this time or later. */
  readonly since?: number | undefined
  /** Received at most so many milliseconds ago. */
  readonly age?: number | undefined
}

/** A row, as whose `after` others are asked for: in the order of their deliveries' ids, and then of their keys. */
export interface RowName {
  readonly id: string
  /** Empty: before all of its delivery's. */
  readonly key: string
}

export interface RowFilter extends DeliveryFilter {
  readonly id?: string | undefined
  /** Keys of backends; rows of others do not match. */
  readonly among?: ReadonlyArray<string> | undefined
}

export interface Redelivered {
  readonly redelivered: number
  /** Matching rows beyond the limit. Only counted without `after`. */
  readonly remaining: number | undefined
  /**
   * `after` for those; undefined when there are none. What has been sent again may match again, but it does not come after
   * this.
   */
  readonly next: RowName | undefined
}

export interface Page {
  /** Newest first. */
  readonly deliveries: ReadonlyArray<DeliveryView>
  /** `after` for the next page; undefined on the last one. */
  readonly next: string | undefined
}

/** A dynamic backend, as it is kept. */
export interface StoredBackend {
  readonly key: string
  readonly url: string
  readonly registeredAt: number
  readonly expiresAt: number | undefined
  /** Milliseconds that it has left; undefined: it never ends. */
  readonly expiresIn: number | undefined
}

export interface BackendBacklog {
  readonly key: string
  readonly pending: number
  readonly dead: number
  /** Milliseconds since the delivering of the longest pending row began. */
  readonly oldestAge: number | undefined
}

export interface Retention {
  /** Milliseconds after its last row was settled, a delivery's headers and body go. */
  readonly delivered: number
  /** The same where a row is dead; after this what is left of any finished delivery goes. */
  readonly dead: number
  /** Pending rows whose delivering began longer ago become dead. */
  readonly maxAge: number
}

export class DeliveryStore extends Context.Service<DeliveryStore, {
  /**
   * Writes everything in one transaction that is on disk when it succeeds. Idempotent in the deliveries' ids and in the
   * numbers of attempts. The result is in the order of `deliveries`.
   */
  readonly write: (batch: {
    readonly deliveries: ReadonlyArray<NewDelivery>
    readonly settlements: ReadonlyArray<NumberedSettlement>
  }) => Effect.Effect<ReadonlyArray<Recorded>, StoreUnavailable>
  /** Writes and syncs a little, as much as a usual delivery, in a place of its own: whether the store takes writes now. */
  readonly probe: Effect.Effect<void, StoreUnavailable>
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

  /** Bytes that the store takes up, as the limit counts them. */
  readonly usage: Effect.Effect<number, StoreUnavailable>
  readonly backlogs: Effect.Effect<ReadonlyArray<BackendBacklog>, StoreUnavailable>
  /**
   * Looks at up to `limit` deliveries that may be over some age; true: there may be more. Also mends due times that lie
   * further ahead than any could (the clock was set back).
   */
  readonly prune: (retention: Retention, limit: number) => Effect.Effect<boolean, StoreUnavailable>

  /** Newest first; `after` is an id. Fewer than `limit` where their rows are more than `rowsOnPage`; one at least. */
  readonly list: (
    filter: DeliveryFilter,
    page: { readonly limit: number; readonly after?: string | undefined }
  ) => Effect.Effect<Page, StoreUnavailable>
  /**
   * The newest that were received with this GUID (or that have it as their id), `mostShown` at most, with the attempts of each
   * row.
   */
  readonly show: (guid: string) => Effect.Effect<
    ReadonlyArray<DeliveryView & { readonly attempts: ReadonlyArray<StoredAttempt & { readonly key: string }> }>,
    StoreUnavailable
  >
  /**
   * Makes up to `limit` matching rows after `after` pending and due, as if just received (`since` is now); rows that are
   * pending already become due, and those without a body are left as they are.
   */
  readonly redeliver: (
    filter: RowFilter,
    limit: number,
    after?: RowName | undefined
  ) => Effect.Effect<Redelivered, StoreUnavailable>

  /** Those whose time is not over. */
  readonly backends: Effect.Effect<ReadonlyArray<StoredBackend>, StoreUnavailable>
  /**
   * Adds it, or changes its url and expiry. `"limit"`: there are as many as `limit` already, and it is not among them.
   * `"superseded"`: it was decided some time ago (`age`, milliseconds), and somebody has changed the backend since.
   */
  readonly putBackend: (
    backend: {
      readonly key: string
      readonly url: string
      /** Milliseconds from now on; undefined: without end. */
      readonly ttl: number | undefined
      readonly age?: number
    },
    limit: number
  ) => Effect.Effect<"added" | "renewed" | "limit" | "superseded", StoreUnavailable>
  /**
   * False: it was not there. A first lot of its pending rows becomes `cancelled`; the others are `clearBackends`'. With an
   * `age`, as for `putBackend`, it is remembered although it was not there, and false if somebody has changed it since.
   */
  readonly deleteBackend: (key: string, age?: number) => Effect.Effect<boolean, StoreUnavailable>
  /**
   * Cancels what is pending for backends that were deleted or whose time is over, late rows of a minute included. Not that
   * of `others`, which are backends by another right.
   */
  readonly clearBackends: (others: ReadonlySet<string>) => Effect.Effect<void, StoreUnavailable>
}>()("sprayproxy/store/DeliveryStore") {}

/**
 * Milliseconds for which a claimed row is its owner's. Longer than any attempt takes, so it is not renewed: a row that is
 * still its owner's then was forgotten, and would be for ever.
 */
export const leaseMillis = 30_000

/** Rows on a page: with a thousand backends each delivery has as many. */
export const rowsOnPage = 20_000

/** Deliveries that are shown for one GUID. It is not signed, so whoever has a delivery can make more. */
export const mostShown = 100

/** No row is due further ahead than this (milliseconds), or than a lease: `Retry-After` is honoured up to it. */
export const longestDelay = 3_600_000
