/** A database in memory, which can be told to fail. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Outcome } from "../../../src/domain/Outcome.ts"
import type { StoredBackend } from "../../../src/store/contract/Backends.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import type { CompletePass, FallbackRecord, RecoveryState, Wanted } from "../../../src/store/contract/Recovery.ts"
import type { RowState, StoredAttempt } from "../../../src/store/contract/Row.ts"
import { StoreUnavailable } from "../../../src/store/contract/Unavailable.ts"

/** The content of the store, and the way it fails. */
export class MemoryDatabase {
  /** Every operation fails, and nothing happens. */
  fail = false
  /** Every operation happens and still fails: the connection is lost before the answer. */
  losesAnswers = false
  /** Milliseconds by which its clock is ahead of the processes'. */
  ahead = 0
  /** Run before a claim of this backend's rows, and before a delivery is read. */
  beforeClaim: (key: string) => Effect.Effect<void, StoreUnavailable> = () => Effect.void
  beforeLoad: Effect.Effect<void, StoreUnavailable> = Effect.void
  /** How many were carried out. */
  operations = 0
  /** The latest time that was seen. */
  seenAt = 0
  readonly deliveries = new Map<string, Delivery>()
  readonly backends = new Map<string, KeptBackend>()
  /** By GUID. */
  readonly recoveries = new Map<string, Recovery>()
  /** By fingerprint. */
  readonly fallbacks = new Map<string, Fallback>()
  readonly reconciliation: Reconciliation = {}
  /** The error for a change of this backend, if the store refuses it. */
  refusesBackend: (key: string) => StoreUnavailable | undefined = () => undefined
  readonly #passage = Latch.makeUnsafe(true)

  /** From now on operations wait. An operation that is interrupted meanwhile does not happen. */
  hang(): void {
    Latch.closeUnsafe(this.#passage)
  }

  /** The waiting operations go on. */
  resume(): void {
    Latch.openUnsafe(this.#passage)
  }

  backendChange<A>(key: string, perform: (now: number) => A): Effect.Effect<A, StoreUnavailable> {
    return Effect.suspend(() => {
      const refusal = this.refusesBackend(key)
      return refusal === undefined ? this.operation(perform) : Effect.fail(refusal)
    })
  }

  operation<A>(perform: (now: number) => A): Effect.Effect<A, StoreUnavailable> {
    return Effect.andThen(
      this.#passage.await,
      Effect.clockWith((clock) => {
        if (this.fail) return Effect.fail(new StoreUnavailable({ reason: "told to fail" }))
        this.operations += 1
        const result = perform(clock.currentTimeMillisUnsafe() + this.ahead)
        return this.losesAnswers
          ? Effect.fail(new StoreUnavailable({ reason: "the answer is lost" }))
          : Effect.succeed(result)
      })
    )
  }
}

interface KeptBackend extends Omit<StoredBackend, "expiresIn" | "failingFor"> {
  failingSince: number | undefined
  readonly changedAt: number
  isCleared: boolean
}

/** The progress of recovery. */
export interface Reconciliation {
  startedAt?: number
  hookId?: string
  failures?: CompletePass
  full?: CompletePass
  fullBeganAt?: number
  lease?: { readonly owner: string; readonly until: number }
}

export interface Recovery extends Wanted {
  attemptId: string
  failedAt: number
  run?: string | undefined
  state: RecoveryState
  asks: number
  dueAt: number
  askedAt?: number | undefined
  endedAt?: number | undefined
  reason?: string | undefined
}

export interface Fallback extends Omit<FallbackRecord, "age"> {
  readonly receivedAt: number
  readonly keptAt: number
}

export interface Delivery {
  readonly id: string
  readonly bodyHash: string
  readonly bodyLength: number
  readonly receivedAt: number
  readonly head: Omit<NewDelivery, "targets" | "bodyHash" | "body" | "headers">
  /** Undefined if it is no longer kept. */
  content: { readonly headers: ReadonlyArray<string>; readonly body: Buffer } | undefined
  readonly rows: Map<string, Row>
}

export interface Row {
  readonly key: string
  url: string
  state: RowState
  since: number
  tries: number
  /** For an owned row, the end of its lease. */
  dueAt: number
  owner: string | undefined
  settledAt: number | undefined
  lastOutcome: Outcome | undefined
  readonly attempts: Array<StoredAttempt>
  /** The numbers of its attempts. */
  readonly numbers: Set<number>
}

/** One process's view of it. */
export interface Replica {
  readonly database: MemoryDatabase
  readonly owner: string
  /** Milliseconds. */
  readonly lease: number
}
