/**
 * Sends what is stored and due: first attempts that could not be made at once, and those that are made again.
 *
 * **Details**
 *
 * - Each backend has a rate of its own, from 4 deliveries a second on, rising by half with each good second up to 200 and
 *   halved by a failure, and at most half of the backend's permits: fresh deliveries always find some. Behind an open
 *   breaker a single one goes, as the probe.
 * - The longest due goes first. Each fourth claim takes the newest instead, or what came in just before a backend recovered
 *   would wait behind hours of backlog.
 * - A claimed delivery that finds no memory in time is given back before its lease ends.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import type { Backend } from "./Backend.ts"
import { forwardedTarget } from "./Backend.ts"
import { BackendBreakers } from "./BackendBreakers.ts"
import { BackendRegistry } from "./BackendRegistry.ts"
import { Body } from "./Body.ts"
import { contained } from "./Defects.ts"
import type { Delivery } from "./Delivery.ts"
import { type Claimed, DeliveryStore, type StoredDelivery } from "./DeliveryStore.ts"
import type { LedgerEntry } from "./Ledger.ts"
import { MemoryBudget, type Reservation } from "./MemoryBudget.ts"
import * as Outcome from "./Outcome.ts"
import { Readiness } from "./Readiness.ts"
import { Settings } from "./Settings.ts"
import { SettlementPolicy } from "./SettlementPolicy.ts"
import { chargeOf, Spray } from "./Spray.ts"
import { StoreMetrics } from "./StoreMetrics.ts"
import { StoreWriter } from "./StoreWriter.ts"
import { Timers } from "./Timers.ts"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const settings = yield* Settings
  const store = yield* DeliveryStore
  const writer = yield* StoreWriter
  const registry = yield* BackendRegistry
  const breakers = yield* BackendBreakers
  const budget = yield* MemoryBudget
  const spray = yield* Spray
  const readiness = yield* Readiness
  const policy = yield* SettlementPolicy
  const metrics = yield* StoreMetrics
  const timers = yield* Timers
  const scope = yield* Effect.scope
  const loading = yield* Semaphore.make(mostLoading)
  const mostActive = Math.max(1, Math.floor(settings.backendConcurrency / 2))
  const drains = new WeakMap<Backend, Drain>()
  const drainOf = (backend: Backend): Drain => {
    let drain = drains.get(backend)
    if (drain === undefined) drains.set(backend, drain = new Drain(mostActive))
    return drain
  }

  const giveBack = (backend: Backend, { id, key }: Claimed) => {
    drainOf(backend).active -= 1
    breakers.notMade(backend)
    writer.settle({ id, key, attempt: undefined, become: { retryIn: 0 } })
  }

  const entryOf = (backend: Backend, claimed: Claimed, claimedAt: number): LedgerEntry => ({
    backends: [backend],
    isDurable: true,
    settled: (_backend, report) => {
      const success = Outcome.isSuccess(report.outcome)
      const age = claimed.age + timers.now() - claimedAt
      drainOf(backend).ended(success)
      breakers.ended(backend, success)
      metrics.sentAgain(backend.name)
      writer.settle(policy.settlement({ id: claimed.id, key: claimed.key, tries: claimed.tries, age }, report))
    },
    abandoned: () => giveBack(backend, claimed)
  })

  const send = Effect.fnUntraced(
    function*(backend: Backend, claimed: Claimed, claimedAt: number) {
      const reservation = budget.open()
      reservation.verified()
      const begun = yield* Effect.gen(function*() {
        yield* roomFor(reservation, claimed.bodyLength + chargeOf([backend]))
        const stored = yield* store.load(claimed.id)
        if (readiness.isDraining()) return false
        if (stored === undefined) {
          // Nothing is left that could be sent.
          drainOf(backend).active -= 1
          breakers.notMade(backend)
          reservation.release()
          writer.settle({ id: claimed.id, key: claimed.key, attempt: undefined, become: "dead" })
          return true
        }
        reservation.hold(stored.body.length)
        spray.begin(deliveryOf(stored), reservation, entryOf(backend, claimed, claimedAt))
        return true
      }).pipe(
        loading.withPermit,
        Effect.timeout(longestWaitMillis),
        Effect.withErrorReporting({ defectsOnly: true }),
        Effect.catchDefect(() => Effect.succeed(false)),
        Effect.orElseSucceed(() => false),
        Effect.onInterrupt(() => Effect.sync(() => reservation.release()))
      )
      if (begun) return
      reservation.release()
      giveBack(backend, claimed)
    }
  )

  const drainDue = Effect.fnUntraced(function*(backend: Backend) {
    const drain = drainOf(backend)
    const isProbe = !breakers.isClosed(backend)
    if (isProbe && !breakers.admits(backend)) return
    const limit = isProbe ? 1 : drain.allowance()
    const claimedAt = timers.now()
    const claimed = yield* store.claim(backend.key, limit, drain.order())
    if (claimed.length === 0 && isProbe) breakers.notMade(backend)
    drain.began(claimed.length)
    for (const row of claimed) yield* Effect.forkIn(send(backend, row, claimedAt), scope)
  })

  const tick = Effect.gen(function*() {
    if (readiness.isDraining() || !writer.isUp()) return
    const ready = registry.snapshot().filter((backend) => drainOf(backend).tick() > 0)
    if (ready.length === 0) return
    const due = new Set(yield* store.due(ready.map(({ key }) => key)))
    yield* Effect.forEach(ready.filter(({ key }) => due.has(key)), drainDue, { concurrency: 8, discard: true })
  }).pipe(Effect.timeout("10 seconds"), contained)

  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(tickMillis), tick)))
}))

/** Waits until the bytes have room. */
const roomFor = (reservation: Reservation, bytes: number) =>
  Effect.callback<void>((resume) => {
    const leaveQueue = reservation.wait(bytes, () => resume(Effect.void))
    return Effect.sync(leaveQueue)
  })

const tickMillis = 250

/** Bodies that are read from the store at once, of all backends. */
const mostLoading = 16

/** A claimed delivery begins within this or goes back: less than what its lease has beyond the forwarding timeout. */
const longestWaitMillis = 8_000

const firstRate = 4
const highestRate = 200

/** One backend's rate. */
class Drain {
  active = 0
  #rate = firstRate
  #credit = 0
  #claims = 0
  #ticks = 0
  #successes = 0
  readonly #mostActive: number

  constructor(mostActive: number) {
    this.#mostActive = mostActive
  }

  /** A tick has passed; how many may begin. */
  tick(): number {
    this.#ticks += 1
    if (this.#ticks % (1_000 / tickMillis) === 0) {
      if (this.#successes > 0) this.#rate = Math.min(highestRate, this.#rate * 1.5)
      this.#successes = 0
    }
    this.#credit = Math.min(this.#rate, this.#credit + this.#rate * tickMillis / 1_000)
    return this.allowance()
  }

  allowance(): number {
    return Math.min(Math.floor(this.#credit), this.#mostActive - this.active)
  }

  order(): "oldest" | "newest" {
    this.#claims += 1
    return this.#claims % 4 === 0 ? "newest" : "oldest"
  }

  began(count: number): void {
    this.active += count
    this.#credit -= count
  }

  ended(success: boolean): void {
    this.active -= 1
    if (success) this.#successes += 1
    else this.#rate = Math.max(firstRate, this.#rate / 2)
  }
}

/** As it was when it came, byte for byte. */
const deliveryOf = (stored: StoredDelivery): Delivery => ({
  requestId: stored.requestId,
  guid: stored.guid,
  event: stored.event,
  method: stored.method,
  target: stored.target,
  forwardedTarget: forwardedTarget(stored.target),
  headers: [...stored.headers],
  body: Body.of(stored.body),
  logged: undefined
})
