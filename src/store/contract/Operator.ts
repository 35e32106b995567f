/** The part of the store's contract for operators: deliveries are shown, and sent again. */
import type * as Effect from "effect/Effect"
import type { Outcome } from "../../domain/Outcome.ts"
import type { RecoveryView } from "./Recovery.ts"
import type { RowState, StoredAttempt } from "./Row.ts"
import type { StoreUnavailable } from "./Unavailable.ts"

/** A row as operators see it. */
export interface RowView {
  readonly key: string
  readonly url: string
  readonly state: RowState
  readonly since: number
  readonly tries: number
  /** Only for `pending` rows. */
  readonly dueAt: number | undefined
  /** Whether an attempt is under way. */
  readonly underWay: boolean
  readonly lastOutcome: Outcome | undefined
  readonly settledAt: number | undefined
}

/** A delivery as operators see it, with all its rows. */
export interface DeliveryView {
  readonly id: string
  readonly requestId: string
  readonly hookId: string
  readonly guid: string | undefined
  readonly event: string | undefined
  readonly receivedAt: number
  readonly bodyLength: number
  /** Whether headers and body are still kept. */
  readonly hasBody: boolean
  readonly rows: ReadonlyArray<RowView>
  /** GitHub could not deliver it at first. It is told only if recovery is on. */
  readonly recovery?: RecoveryView
}

/** Conditions on deliveries. All that are given must hold. */
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

/** The name of a row. Rows are ordered by their delivery's id, and then by the backend's key. */
export interface RowName {
  readonly id: string
  /** Empty: before all rows of the delivery. */
  readonly key: string
}

/** Conditions on rows. */
export interface RowFilter extends DeliveryFilter {
  readonly id?: string | undefined
  /** Keys of backends. Rows of other backends do not match. */
  readonly among?: ReadonlyArray<string> | undefined
}

/** The result of redelivering. */
export interface Redelivered {
  readonly redelivered: number
  /** How many matching rows there are beyond the limit. It is counted only without `after`. */
  readonly remaining: number | undefined
  /**
   * The `after` for the remaining rows. Undefined if there are none. A row that was sent again may match again, but it
   * does not come after this.
   */
  readonly next: RowName | undefined
}

/** A page of the list. */
export interface Page {
  /** Newest first. */
  readonly deliveries: ReadonlyArray<DeliveryView>
  /** `after` for the next page; undefined on the last one. */
  readonly next: string | undefined
}

/** The operations for operators. */
export interface DeliveryRecords {
  /**
   * The newest deliveries before `after`, which is an id, newest first. There are fewer than `limit` if their rows
   * would be more than `rowsOnPage`, but at least one.
   */
  readonly list: (
    filter: DeliveryFilter,
    page: { readonly limit: number; readonly after?: string | undefined }
  ) => Effect.Effect<Page, StoreUnavailable>
  /**
   * The newest deliveries with this GUID, or the one with this id, with the attempts on each row. There are at most
   * `mostShown`.
   */
  readonly show: (guid: string) => Effect.Effect<
    ReadonlyArray<DeliveryView & { readonly attempts: ReadonlyArray<StoredAttempt & { readonly key: string }> }>,
    StoreUnavailable
  >
  /**
   * Makes up to `limit` matching rows after `after` pending and due, as if they were just received (`since` is now).
   * Rows that are already pending become due. Rows whose body is gone are left as they are.
   */
  readonly redeliver: (
    filter: RowFilter,
    limit: number,
    after?: RowName | undefined
  ) => Effect.Effect<Redelivered, StoreUnavailable>
}

/** The most rows on a page. With a thousand backends each delivery has as many. */
export const rowsOnPage = 20_000

/** The most deliveries that are shown for one GUID. The GUID is not signed, so whoever has a delivery can make more. */
export const mostShown = 100
