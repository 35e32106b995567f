/**
 * The dynamic backends that all replicas share, kept in the store.
 *
 * **Details**
 *
 * - A change is written before it holds. Changes of other replicas are seen within a second.
 * - A change that the store has not taken holds in this process, and is written when the store is back. Of several
 *   changes of one backend only the last is written. It is written with its age, so that it does not undo what others
 *   have decided since.
 * - The limit of backends is checked in one place: in the store, or, if that can't be asked, by the caller.
 *
 * **Gotchas**
 *
 * For a backend that is changing here, or has a change waiting, the store's content is out of date. Such a backend is
 * left as it is until the next look.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { BackendMembership, type Membership } from "../backends/Membership.ts"
import type { BackendFilter } from "../domain/BackendFilter.ts"
import { Log } from "../observability/logs/Logging.ts"
import { contained } from "../runtime/Contained.ts"
import { Settings } from "../settings/Settings.ts"
import { DeliveryStore } from "../store/DeliveryStore.ts"
import { StoreUnavailable } from "../store/contract/Unavailable.ts"
import { FailureNotes } from "./FailureNotes.ts"

/** A change that the store has not taken yet. */
interface Change {
  readonly url: string
  readonly filter: BackendFilter | undefined
  /** A time of the monotonic clock, as is `endsAt`. */
  readonly madeAt: number
  readonly endsAt: number | undefined
  readonly isRemoval: boolean
}

export const layer = Layer.effect(
  BackendMembership,
  Effect.gen(function*() {
    const store = yield* DeliveryStore
    const { backends, dynamicBackendLimit } = yield* Settings
    const statics = new Set(backends.map(({ key }) => key))
    const log = yield* Log
    const clock = yield* Clock.Clock
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const unwritten = new Map<string, Change>()
    const unsettled = new Unsettled()
    const notes = new FailureNotes(store)
    const runFork = yield* FiberSet.makeRuntime()
    let isKnown = false
    let saidUnknown = false

    const keep = (key: string, change: Change) => {
      unwritten.set(key, change)
      log.write("warn", "the store has not taken a change of the backends yet", { backend: change.url })
    }

    /** Tries the store. If earlier changes wait for the store already, it is not asked, and nobody waits for it. */
    const tried = <A>(key: string, change: Effect.Effect<A, StoreUnavailable>) =>
      Effect.suspend(() =>
        unwritten.size > 0 ? Effect.succeed("away" as const) : change.pipe(
          Effect.timeout(longestWait),
          Effect.catch((error) => Effect.succeed(isRefusal(error) ? "refused" as const : "away" as const))
        )
      ).pipe(unsettled.during(key))

    const write = Effect.fnUntraced(function*(key: string, { endsAt, filter, isRemoval, madeAt, url }: Change) {
      const age = now() - madeAt
      const ttl = endsAt === undefined ? undefined : endsAt - now()
      // A backend whose time is over by now has ended, whatever the store has of it.
      if (isRemoval || (ttl !== undefined && ttl <= 0)) yield* store.deleteBackend(key, age)
      else {
        const put = yield* store.putBackend({ key, url, ttl, filter, age }, dynamicBackendLimit)
        if (put === "limit") log.write("error", "the limit of backends is reached: one is not kept", { backend: url })
      }
    })

    /** Writes until the store fails. A change that it refuses for good is dropped, and stops no other. */
    const writeAll = Effect.gen(function*() {
      const until = now() + longestWriting
      for (const [key, change] of Array.from(unwritten)) {
        if (now() >= until) return
        yield* write(key, change).pipe(
          Effect.timeout(longestWait),
          Effect.catchIf(
            isRefusal,
            ({ message }) =>
              Effect.sync(() =>
                log.write("error", "a change of the backends is dropped", { backend: change.url, error: message })
              )
          )
        )
        // Another change of the same backend may have come meanwhile.
        if (unwritten.get(key) === change) unwritten.delete(key)
      }
    })

    const look = Effect.fnUntraced(function*(apply: Parameters<Membership["follow"]>[0]) {
      // A store that takes no changes now may still tell those of others.
      yield* Effect.ignore(writeAll)
      yield* Effect.ignore(Effect.timeout(notes.writeAll, longestWait))
      unsettled.begin()
      notes.begin()
      const stored = yield* Effect.timeoutOrElse(store.backends, {
        duration: longestWait,
        orElse: () => Effect.fail(new StoreUnavailable({ reason: "it took too long" }))
      })
      apply(stored, (key) => unwritten.has(key) || unsettled.has(key), (key) => notes.has(key))
      if (saidUnknown) log.write("info", "the backends are known")
      isKnown = true
      saidUnknown = false
    })

    return {
      put: (backend, { filter, ttl }, takesRoom) =>
        Effect.suspend(() => {
          const { key, url } = backend
          const madeAt = now()
          const millis = ttl === undefined ? undefined : Duration.toMillis(ttl)
          const put = store.putBackend({ key, url, ttl: millis, filter }, dynamicBackendLimit)
          return Effect.map(tried(key, put), (answer) => {
            // A change that is made at once is never superseded.
            if (answer !== "away") return answer === "superseded" ? "renewed" : answer
            if (!takesRoom()) return "limit"
            const endsAt = millis === undefined ? undefined : madeAt + millis
            keep(key, { url, filter, madeAt, endsAt, isRemoval: false })
            return "unshared"
          })
        }),
      remove: (key, isHere) =>
        Effect.suspend(() => {
          const madeAt = now()
          return Effect.map(tried(key, store.deleteBackend(key)), (answer) => {
            if (answer !== "away") return answer === "refused" ? false : answer
            if (isHere) keep(key, { url: key, filter: undefined, madeAt, endsAt: undefined, isRemoval: true })
            return undefined
          })
        }),
      noteFailing: (key, isFailing) => {
        notes.add(key, isFailing)
        runFork(Effect.ignore(Effect.timeout(notes.write(key), longestWait)))
      },
      // Of a backend with a change or a note that waits, the store does not know the latest.
      removeDead: (key, millis) =>
        Effect.suspend(() =>
          unwritten.has(key) ? Effect.succeed(false) : Effect.andThen(
            notes.write(key),
            store.deleteDeadBackend(key, millis)
          )
        ).pipe(
          Effect.timeout(longestWait),
          Effect.orElseSucceed(() => false),
          unsettled.during(key)
        ),
      follow: Effect.fnUntraced(function*(apply) {
        const first = yield* Deferred.make<void>()
        const once = contained(look(apply))
        yield* Effect.andThen(once, Deferred.succeed(first, undefined)).pipe(
          Effect.andThen(Effect.forever(Effect.delay(once, "1 second"))),
          Effect.forkScoped
        )
        // In a loop of its own, because removing a large backlog of a backend that is gone takes its time.
        yield* Effect.forkScoped(Effect.forever(Effect.delay(contained(store.clearBackends(statics)), "1 second")))
        yield* Effect.timeoutOption(Deferred.await(first), longestStart)
        saidUnknown = !isKnown
        if (saidUnknown) {
          log.write("warn", "the store has not said which backends there are: not ready, and no delivery is taken")
        }
      }),
      isKnown: () => isKnown
    }
  })
)

const isRefusal = (error: unknown): error is StoreUnavailable =>
  Predicate.isTagged(error, "StoreUnavailable") && (error as StoreUnavailable).fault === "content"

const longestWait = "2 seconds"

/** Milliseconds. After that, the backends are read although changes still wait to be written. */
const longestWriting = 1_000

/** A start waits no longer than this for the store. */
const longestStart = "3 seconds"

/** The backends that have changed here since the last read of the store began. */
class Unsettled {
  readonly #underWay = new Map<string, number>()
  readonly #touched = new Set<string>()

  /** A read of the store begins. */
  begin(): void {
    this.#touched.clear()
  }

  has(key: string): boolean {
    return this.#touched.has(key) || this.#underWay.has(key)
  }

  readonly during = (key: string) => <A, E, R>(change: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      this.#underWay.set(key, (this.#underWay.get(key) ?? 0) + 1)
      return Effect.ensuring(
        change,
        Effect.sync(() => {
          this.#touched.add(key)
          const left = this.#underWay.get(key)! - 1
          if (left === 0) this.#underWay.delete(key)
          else this.#underWay.set(key, left)
        })
      )
    })
}
