/** What the store promises to operators: what there is, and that it is sent again. */
import type * as Effect from "effect/Effect"
import type { Outcome } from "../../domain/Outcome.ts"
import type { RowState, StoredAttempt } from "./Row.ts"
import type { StoreUnavailable } from "./Unavailable.ts"

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

export interface DeliveryRecords {
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
}

/** Rows on a page: with a thousand backends each delivery has as many. */
export const rowsOnPage = 20_000

/** Deliveries that are shown for one GUID. It is not signed, so whoever has a delivery can make more. */
export const mostShown = 100
