/**
 * The `DeliveryStore` on disk: SQLite for one replica, PostgreSQL for any number.
 *
 * **Details**
 *
 * The statements are the same for both databases, in rooms by who needs them: `queue/`, `operator/`, `upkeep/`.
 * `StoreDialect` holds the differences between the databases. The reason of a failure names no address, no user and no
 * secret.
 *
 * **Gotchas**
 *
 * An operation on PostgreSQL is broken off after some seconds. An operator's question is broken off on both databases.
 * An interrupted operation leaves no transaction behind, but may have happened.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { StoreLocation } from "../settings/StoreLocation.ts"
import * as StoreBackends from "./Backends.ts"
import { DeliveryStore } from "./DeliveryStore.ts"
import type { StoreSession } from "./Session.ts"
import { faultOf, isConflict, reasonOf } from "./SqlErrors.ts"
import { leaseMillis } from "./contract/Row.ts"
import { type StoreFault, StoreUnavailable, type StoreUnusable } from "./contract/Unavailable.ts"
import * as StoreRedelivering from "./operator/Redelivering.ts"
import * as StoreViews from "./operator/Views.ts"
import * as StorePostgres from "./postgres/Database.ts"
import * as StoreClaiming from "./queue/Claiming.ts"
import * as StoreLoading from "./queue/Loading.ts"
import * as StoreRecording from "./queue/Recording.ts"
import type { Memory } from "./queue/Remembered.ts"
import * as StoreSqlite from "./sqlite/Database.ts"
import * as StoreMeasures from "./upkeep/Measures.ts"
import * as StoreProbe from "./upkeep/Probe.ts"
import * as StorePruning from "./upkeep/Pruning.ts"

export interface SqlDeliveryStoreOptions {
  /** The name of this process. No other process has it. */
  readonly owner: string
  /** Milliseconds of a lease. It must be more than an attempt may take, because a lease is not renewed. */
  readonly lease?: number | undefined
}

/** The parts that recovery adds to the queue, to what operators see, and to pruning. */
export interface RecoveryParts {
  readonly memory: Memory
  readonly recoveriesOf: StoreViews.RecoveriesOf
  readonly forget: StorePruning.Forget
}

/** Fails if the store can't be used. A store that is only out of reach is tried again with each operation. */
export const layer = (
  location: StoreLocation,
  options: SqlDeliveryStoreOptions
): Layer.Layer<DeliveryStore, StoreUnusable> =>
  Layer.effect(DeliveryStore, Effect.map(open(location, options), (session) => make(session)))

export const open = Effect.fnUntraced(function*(
  location: StoreLocation,
  { lease = leaseMillis, owner }: SqlDeliveryStoreOptions
): Effect.fn.Return<StoreSession, StoreUnusable, Scope> {
  const database = yield* location.kind === "sqlite"
    ? StoreSqlite.open(location.path, owner)
    : StorePostgres.open(location.url)
  return { ...database, owner, lease }
})

export const make = (session: StoreSession, recovery?: RecoveryParts): DeliveryStore["Service"] => {
  const safe = guarded(session)
  const asked = guarded(session, "question")
  const write = StoreRecording.make(session, recovery?.memory)
  const claiming = StoreClaiming.make(session)
  const load = StoreLoading.make(session)
  const redeliver = StoreRedelivering.make(session)
  const views = StoreViews.make(session, recovery?.recoveriesOf)
  const measures = StoreMeasures.make(session)
  const { prune } = StorePruning.make(session, recovery?.forget)
  const backends = StoreBackends.make(session)

  /** Works in lots, so that others can write in between. */
  const clearBackends = Effect.fnUntraced(function*(others: ReadonlySet<string>) {
    for (const key of yield* safe(backends.ended)) {
      if (others.has(key)) yield* safe(backends.close(key))
      else while (yield* safe(backends.clear(key))) yield* Effect.yieldNow
    }
  })

  /** Clears a first lot of a backend that was ended. */
  const cleared = (key: string, end: Effect.Effect<boolean, SqlError>) =>
    Effect.tap(safe(end), (ended) => ended ? safe(backends.clear(key)) : Effect.void)

  return DeliveryStore.of({
    write: (batch) => safe(write(batch)),
    probe: safe(StoreProbe.make(session)),
    due: (keys) => safe(claiming.due(keys)),
    claim: (key, limit, order) => safe(claiming.claim(key, limit, order)),
    load: (id) => safe(load(id)),
    release: safe(claiming.release),
    usage: asked(measures.usage),
    backlogs: asked(measures.backlogs),
    prune: (retention, limit) => safe(prune(retention, limit)),
    list: (filter, page) => asked(views.list(filter, page)),
    show: (guid) => asked(views.show(guid)),
    redeliver: (filter, limit, after) => safe(redeliver(filter, limit, after)),
    backends: safe(backends.list),
    putBackend: (backend, limit) => safe(backends.put(backend, limit)),
    deleteBackend: (key, age = 0) => cleared(key, backends.end(key, age)),
    noteFailing: (key, isFailing) => safe(backends.noteFailing(key, isFailing)),
    deleteDeadBackend: (key, millis) => cleared(key, backends.endDead(key, millis)),
    clearBackends
  })
}

/** PostgreSQL gives up on a statement a little sooner. */
const longest = "5 seconds"

const databases = { sqlite: "SQLite", postgres: "PostgreSQL" }

/** `late` says whose fault it is if an operation takes too long. */
export const guarded =
  ({ dialect, ready }: StoreSession, late: StoreFault = "away") =>
  <A>(operation: Effect.Effect<A, SqlError | StoreUnavailable>) => {
    const attempted = Effect.andThen(ready, operation)
    const inTime = Effect.timeoutOrElse({
      duration: longest,
      orElse: () =>
        Effect.fail(new StoreUnavailable({ reason: `${databases[dialect.kind]} took too long`, fault: late }))
    })
    // In SQLite an operation blocks no other writer, and it is better to wait for one that has begun.
    const bounded = dialect.kind === "postgres"
      ? inTime(Effect.retry(attempted, { times: 3, while: (error) => isSqlError(error) && isConflict(error) }))
      : late === "question"
      ? inTime(attempted)
      : attempted
    // If the connection is lost, the rollback fails too, and the client makes a defect of that.
    return Effect.catchCause(bounded, (cause) => {
      const failed = cause.reasons.find((reason) =>
        Cause.isFailReason(reason) || (Cause.isDieReason(reason) && isSqlError(reason.defect))
      )
      if (failed === undefined || Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
      const error = Cause.isDieReason(failed) ? failed.defect : (failed as Cause.Fail<SqlError>).error
      return Effect.fail(unavailable(error as SqlError | StoreUnusable | StoreUnavailable, late))
    }).pipe(Effect.withTracerEnabled(false))
  }

const unavailable = (error: SqlError | StoreUnusable | StoreUnavailable, late: StoreFault): StoreUnavailable => {
  if (error instanceof StoreUnavailable) return error
  return isSqlError(error)
    ? new StoreUnavailable({ reason: reasonOf(error), fault: faultOf(error, late) })
    : new StoreUnavailable({ reason: error.reason })
}
