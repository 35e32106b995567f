/**
 * The part of the store's contract for recovery: the deliveries that GitHub has made and we have never had, and those
 * that went without the store.
 */
import type * as Effect from "effect/Effect"
import type { StoreUnavailable } from "./Unavailable.ts"

/**
 * The states of a recovery. `wanted`: GitHub is to be asked. `asked`: it was asked, and the delivery has not arrived.
 * `recovered`: the delivery has arrived. `given up`: it is not asked for any more. The last two have ended.
 */
export const recoveryStates = ["wanted", "asked", "recovered", "given up"] as const
export type RecoveryState = typeof recoveryStates[number]

/** Milliseconds after a request in which a delivery that comes is taken for GitHub's answer to it. */
export const answerMillis = 600_000

/** Milliseconds after a request for which an operator's wish does not ask again. */
export const requestMillis = 120_000

/** A delivery that is missing, as GitHub's log has it. */
export interface Missing {
  readonly guid: string
  readonly event: string
  /** The attempt that GitHub can make again: decimal digits, and more than a number holds. */
  readonly attemptId: string
  /** When it first failed, by GitHub's clock. */
  readonly failedAt: number
  /** The operator's run that found it. Undefined: a pass did. */
  readonly run?: string | undefined
}

/** A missing delivery that GitHub is to be asked for. */
export interface Wanted extends Missing {
  /** A lower number goes first. */
  readonly priority: number
}

/** A missing delivery that is given up, with the reason for people to read. */
export interface GivenUp extends Missing {
  readonly reason: string
}

/** A delivery to ask for now. */
export interface DueRequest extends Wanted {
  /** The requests so far. */
  readonly asks: number
}

/** The last pass of a kind that has come to its end. */
export interface CompletePass {
  /** Everything in GitHub's log before this was seen, by GitHub's clock. */
  readonly scannedTo: number
  readonly completedAt: number
}

export interface RecoveryProgress {
  /** When recovery was first started on this store. */
  readonly startedAt: number
  /** The store's clock. */
  readonly now: number
  /** `X-GitHub-Hook-ID` of the App's deliveries. Undefined: it is not known yet. */
  readonly hookId: string | undefined
  readonly failures: CompletePass | undefined
  readonly full: CompletePass | undefined
  /** The process that has the reconciler's lease. */
  readonly leader: string | undefined
}

/** A position never goes back. */
export interface RecoveryAdvance {
  readonly hookId?: string
  /** The pass over failures has come to its end, and has seen everything before this. */
  readonly failures?: number
  /**
   * The same of a full pass, and when it began, by the store's clock: it may have missed records of fallbacks that were
   * kept since.
   */
  readonly full?: { readonly scannedTo: number; readonly beganAt: number }
}

/** The store's knowledge of one GUID. */
export interface Recalled {
  readonly guid: string
  /** The ledger has a delivery with it. */
  readonly held: boolean
  /** A delivery with it went without the store, and all its backends are done with it, or some lack it. */
  readonly fallback: "complete" | "lacking" | undefined
  readonly recovery: { readonly state: RecoveryState; readonly asks: number } | undefined
}

/** How often the deliveries were found that are in each state. */
export interface RecoveryCounts {
  readonly wanted: number
  readonly asked: number
  readonly recovered: number
  readonly givenUp: number
  /** The first failure of the one that is missing for longest: wanted or asked for. By GitHub's clock. */
  readonly oldestFailedAt: number | undefined
  /** When the latest one arrived. */
  readonly lastRecoveredAt: number | undefined
}

/** The end of a fallback's attempt at a backend, as its row would have had it. Undefined: the backend lacks it. */
export type FallbackEnd = "delivered" | "rejected" | "dead" | undefined

/** A delivery that went without the store, with its outcomes. There is no body in it. */
export interface FallbackRecord {
  readonly guid: string
  readonly hookId: string
  readonly bodyHash: string
  /** Milliseconds since it was received. */
  readonly age: number
  readonly backends: ReadonlyArray<{ readonly key: string; readonly end: FallbackEnd }>
}

/** A delivery's recovery, as operators see it. */
export interface RecoveryView {
  readonly state: RecoveryState
  readonly failedAt: number
  readonly asks: number
  /** The latest request. */
  readonly askedAt: number | undefined
  readonly recoveredAt: number | undefined
  /** Why it was given up. */
  readonly reason: string | undefined
}

/** The operations of recovery. */
export interface RecoveryRecords {
  /**
   * Takes or renews the reconciler's lease, for so many milliseconds by the store's clock. False: another process has
   * it.
   */
  readonly lead: (millis: number) => Effect.Effect<boolean, StoreUnavailable>
  /** Gives the lease back. Nothing happens if another process has it. */
  readonly resign: Effect.Effect<void, StoreUnavailable>
  /** The first call of this, or of `lead` or `advance`, is the first start. */
  readonly progress: Effect.Effect<RecoveryProgress, StoreUnavailable>
  readonly advance: (change: RecoveryAdvance) => Effect.Effect<void, StoreUnavailable>
  /**
   * What is known of these GUIDs. One of which nothing is known is left out. With a hook id, deliveries of other hooks
   * do not count.
   */
  readonly recall: (
    guids: ReadonlyArray<string>,
    hookId: string | undefined
  ) => Effect.Effect<ReadonlyArray<Recalled>, StoreUnavailable>
  /**
   * Adds those that are not there, and returns how many that were. Of one that has not ended, the newer attempt is
   * kept, the earlier failure, and the run. With `anew` an operator asks: one that was given up is wanted again, its
   * requests are counted from 0 again, and one that waits for its next request is due, if the last is not too recent.
   * One that is recovered stays so.
   */
  readonly want: (
    wanted: ReadonlyArray<Wanted>,
    options: { readonly anew: boolean }
  ) => Effect.Effect<number, StoreUnavailable>
  /** Gives up those that have not ended, whether they were wanted or not. Returns how many that were. */
  readonly giveUp: (given: ReadonlyArray<GivenUp>) => Effect.Effect<number, StoreUnavailable>
  /** Those that are due: by priority, and then the newest failure first. */
  readonly wanted: (limit: number) => Effect.Effect<ReadonlyArray<DueRequest>, StoreUnavailable>
  /**
   * Counts a request that is about to go out, and makes the next one due in `retryIn` milliseconds. It comes before the
   * request, so that a crash between the two can't ask twice without counting. `asks` is the number of requests that
   * count from then on, if it is not one more than before. False: the request must not go out. The delivery has arrived
   * or is given up, or this process has not got the lease.
   */
  readonly asking: (guid: string, retryIn: number, asks?: number) => Effect.Effect<boolean, StoreUnavailable>
  /**
   * When something last arrived: a delivery that the ledger holds, or one that is recovered. Undefined: nothing ever
   * did.
   */
  readonly lastArrivalAt: Effect.Effect<number | undefined, StoreUnavailable>
  /** Of all, or of those of one run. */
  readonly recoveryCounts: (run?: string) => Effect.Effect<RecoveryCounts, StoreUnavailable>
  /**
   * Keeps records of fallbacks. One of a delivery that the ledger holds is left out, because its rows know more. Of
   * several with one fingerprint, each backend has its best end. A missing delivery that all backends are done with is
   * recovered. A record without backends is not kept, and does that alone.
   */
  readonly keepFallbacks: (fallbacks: ReadonlyArray<FallbackRecord>) => Effect.Effect<void, StoreUnavailable>
  /**
   * When the first delivery was received that a backend lacks and whose record was kept since the last complete full
   * pass began, or shortly before. Undefined: there is none. A record may be kept long after its delivery was received,
   * because a process had no store.
   */
  readonly lackingSince: Effect.Effect<number | undefined, StoreUnavailable>
}
