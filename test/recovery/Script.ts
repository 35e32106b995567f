/** Recovery as a whole, between a store in memory and a GitHub that the test plays. `TestClock` drives it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { BackendRegistry } from "../../src/backends/Registry.ts"
import { FallbackRecords, notRecorded } from "../../src/durable/fallback/FallbackRecords.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import { Log, LogEntries } from "../../src/observability/logs/Logging.ts"
import { GitHubLog, type GitHubUnavailable, type LoggedAttempt } from "../../src/recovery/GitHubLog.ts"
import * as Mode from "../../src/recovery/Mode.ts"
import { Recovery } from "../../src/recovery/Recovery.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { Settings } from "../../src/settings/Settings.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { RecoveryStore } from "../../src/store/RecoveryStore.ts"
import { WebhookVerifier } from "../../src/webhook/Verifier.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"
import { newDelivery } from "../support/StoreDatabases.ts"

export const second = 1_000
export const minute = 60 * second
export const hour = 60 * minute

/** When the tests begin. */
export const begin = Date.parse("2026-11-20T12:00:00Z")

type Described = Partial<LoggedAttempt>

/** A GitHub with a log, which the test writes. Redeliveries arrive, unless `redelivered` says otherwise. */
class ScriptedGitHub {
  readonly rows: Array<LoggedAttempt> = []
  /** All requests: `all` and `failures` for each page. */
  readonly pages: Array<"all" | "failures"> = []
  readonly details: Array<string> = []
  /** The GUIDs that it was asked for. */
  readonly asked: Array<string> = []
  hookId: string | undefined = "1"
  pageSize = 100
  /** Left out of the pages that they are on. */
  isLeftOut: (row: LoggedAttempt) => boolean = () => false
  failure: GitHubUnavailable | undefined
  /** The failure of the pages of one list. */
  failureOf: Partial<Record<"all" | "failures", GitHubUnavailable>> = {}
  /** Run before each page. */
  beforePage: Effect.Effect<void, GitHubUnavailable> = Effect.void
  /** What comes of a request for this GUID. */
  redelivered: (
    guid: string
  ) => Effect.Effect<"accepted" | { readonly refused: string }, GitHubUnavailable> = () => Effect.succeed("accepted")
  #id = 9_007_199_254_740_993n

  add(guid: string, deliveredAt: number, statusCode: number, described: Described = {}): LoggedAttempt {
    this.#id += 2n
    const row: LoggedAttempt = {
      id: String(this.#id),
      guid,
      deliveredAt,
      redelivery: false,
      statusCode,
      event: "push",
      action: undefined,
      installationId: undefined,
      repositoryId: undefined,
      throttledAt: undefined,
      ...described
    }
    this.rows.push(row)
    return row
  }

  readonly service = GitHubLog.of({
    attempts: (which) =>
      Stream.unwrap(Effect.sync(() => {
        const listed = this.rows
          .filter(({ statusCode }) => which === "all" || (statusCode >= 400 && statusCode < 600))
          .toSorted((a, b) => b.deliveredAt - a.deliveredAt)
        return Stream.paginate(0, (at) =>
          Effect.gen({ self: this }, function*() {
            yield* this.beforePage
            const failure = this.failure ?? this.failureOf[which]
            if (failure !== undefined) return yield* failure
            this.pages.push(which)
            const next = at + this.pageSize
            const page = listed.slice(at, next).filter((row) => !this.isLeftOut(row))
            return [[page], next < listed.length ? Option.some(next) : Option.none()] as const
          }))
      })),
    hookIdOf: (id) =>
      Effect.suspend(() => {
        this.details.push(id)
        return this.failure ?? Effect.succeed(this.hookId)
      }),
    redeliver: (id) =>
      Effect.suspend(() => {
        const { guid } = this.rows.find((row) => row.id === id)!
        this.asked.push(guid)
        return this.failure ?? this.redelivered(guid)
      })
  })
}

/** The store and GitHub, which outlive the processes between them. */
export const setUp = Effect.fnUntraced(function*(settings: Partial<Settings["Service"]> = {}) {
  yield* TestClock.setTime(begin)
  const database = new MemoryDeliveryStore.MemoryDatabase()
  const github = new ScriptedGitHub()
  /** Closed while records of deliveries without the store are on their way to it. */
  const records = yield* Latch.make(true)
  const allKept = records.await
  const storeOf = (owner: string) => Layer.build(MemoryDeliveryStore.layer({ shared: database, owner }))
  const own = yield* storeOf("the test")
  const store = Context.get(own, DeliveryStore)
  const recovery = Context.get(own, RecoveryStore)

  /** A delivery comes in, and is written down. Says to which backends it goes. */
  const arrive = (guid: string, described: Parameters<typeof newDelivery>[0] = {}) =>
    Effect.orDie(Effect.map(
      store.write({ deliveries: [newDelivery({ guid, body: Buffer.from(guid), ...described })], settlements: [] }),
      ([recorded]) => recorded!.owned
    ))

  /** Redeliveries arrive a second after they were asked for. */
  const takeRedeliveries = Effect.gen(function*() {
    const scope = yield* Effect.scope
    github.redelivered = (guid) =>
      Effect.as(
        Effect.forkIn(
          Effect.delay(
            Effect.andThen(
              arrive(guid),
              Effect.clockWith((clock) =>
                Effect.sync(() => github.add(guid, clock.currentTimeMillisUnsafe(), 202, { redelivery: true }))
              )
            ),
            second
          ),
          scope
        ),
        "accepted"
      )
  })

  /** Starts a process. */
  const start = Effect.fnUntraced(function*(owner = "one") {
    const scope = yield* Scope.make()
    let isDead = false
    const mortal = <A, E>(operation: Effect.Effect<A, E>) => Effect.suspend(() => isDead ? Effect.never : operation)
    const StoreOfProcess = Layer.effect(
      RecoveryStore,
      Effect.map(RecoveryStore, (all) =>
        RecoveryStore.of(
          Object.fromEntries(
            Object.entries(all).map(([name, operation]) => [
              name,
              typeof operation === "function"
                ? (...args: ReadonlyArray<never>) =>
                  mortal((operation as (...args: ReadonlyArray<never>) => Effect.Effect<unknown>)(...args))
                : mortal(operation as Effect.Effect<unknown>)
            ])
          ) as unknown as RecoveryStore["Service"]
        ))
    ).pipe(Layer.provide(MemoryDeliveryStore.layer({ shared: database, owner })))
    const services = yield* Layer.build(
      Mode.layerReconciler.pipe(
        Layer.provideMerge(Layer.mergeAll(
          StoreOfProcess,
          Layer.succeed(GitHubLog, github.service),
          Layer.mock(BackendRegistry)({
            snapshot: () => [],
            isKnown: () => true,
            isFiltered: () => false,
            filterOf: () => undefined,
            recordOutcome: () => {}
          }),
          Layer.mock(WebhookVerifier)({ begin: () => "signature missing", isReady: () => true }),
          Layer.succeed(FallbackRecords, FallbackRecords.of({ begin: () => notRecorded, allKept })),
          Readiness.layer,
          Timers.layerClock,
          Log.layerTest,
          Settings.layerFrom(settings)
        ))
      )
    ).pipe(Scope.provide(scope))
    const { entries } = Context.get(services, LogEntries)
    return {
      entries,
      lines: (message: string) => entries.filter((entry) => entry.message === message),
      operators: Context.get(services, Recovery),
      readiness: Context.get(services, Readiness),
      /** It ends at once, and gives nothing back. */
      kill: () => {
        isDead = true
      },
      /** It ends in good order. */
      stop: Scope.close(scope, Exit.void)
    }
  })

  /** The states of all recoveries, by GUID. */
  const states = () => Object.fromEntries([...database.recoveries.values()].map(({ guid, state }) => [guid, state]))
  return { arrive, database, github, records, recovery, start, states, store, takeRedeliveries }
})
