/**
 * The breakers of backends: whether a backend is worth an attempt. After failures in a row most deliveries are held,
 * and a few find out whether the backend is there.
 *
 * **Details**
 *
 * - Five attempts in a row that end as if the backend were away (`Outcome.isAway`) open its breaker. Any answer closes
 *   it, even a refusal, because a backend that refuses is there.
 * - While the breaker is open, two attempts may be under way as probes. One is of a fresh delivery, and goes at once.
 *   The other is of the backlog. It goes after 1 s, and each failed one doubles that wait, up to 15 s. It goes at once
 *   if a fresh delivery was held because of a probe.
 * - A probe that has taken a second keeps no other out any more, because it may be the one delivery that the backend
 *   hangs on.
 * - A failure counts only if its attempt began after the last answer.
 *
 * Only deliveries on disk are held. Elsewhere an attempt that is not made is a loss.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { AttemptReport } from "../domain/AttemptReport.ts"
import type { Backend } from "../domain/Backend.ts"
import * as Outcome from "../domain/Outcome.ts"
import { Timers } from "../runtime/Timers.ts"

/** The permission for one attempt. Either `ended` or `notMade` is called, once. */
export interface Admission {
  /** For a second, no other attempt of its kind may be made beside a probe. */
  readonly isProbe: boolean
  /** The attempt is for a delivery that was held, so the newest of the backlog should go. */
  readonly forHeld: boolean
  readonly ended: (report: Pick<AttemptReport, "outcome" | "status">) => void
  /** No attempt was made, for a reason that says nothing of the backend. */
  readonly notMade: () => void
}

export class BackendBreakers extends Context.Service<BackendBreakers, {
  /** Admits an attempt on a fresh delivery. Undefined: the delivery is held. */
  readonly admitFresh: (backend: Backend) => Admission | undefined
  /** Admits an attempt from the backlog. Undefined: not now. */
  readonly admitStored: (backend: Backend) => Admission | undefined
  /** Whether `admitStored` would admit an attempt now. */
  readonly mayAdmitStored: (backend: Backend) => boolean
  /** Admits an attempt that is made in any case. */
  readonly admitAnyway: (backend: Backend) => Admission
  /**
   * How many deliveries were held while a probe was finding out that the backend is there. Without a breaker they would
   * have gone at once. Each is told once.
   */
  readonly takeHeld: (backend: Backend) => number
}>()("sprayproxy/durable/BackendBreakers") {
  static readonly layer = Layer.effect(
    BackendBreakers,
    Effect.gen(function*() {
      const timers = yield* Timers
      const breakers = new WeakMap<Backend, Breaker>()
      const breakerOf = (backend: Backend): Breaker => {
        let breaker = breakers.get(backend)
        if (breaker === undefined) breakers.set(backend, breaker = new Breaker(timers))
        return breaker
      }
      return BackendBreakers.of({
        admitFresh: (backend) => breakerOf(backend).admitFresh(),
        admitStored: (backend) => breakerOf(backend).admitStored(),
        mayAdmitStored: (backend) => breakerOf(backend).mayAdmitStored(),
        admitAnyway: (backend) => breakerOf(backend).admitAnyway(),
        takeHeld: (backend) => breakerOf(backend).takeHeld()
      })
    })
  )
}

const failuresToOpen = 5
const firstWait = 1_000
const longestWait = 15_000

/** Milliseconds for which a probe keeps others of its kind out. */
const patience = 1_000

/** A probe is a fresh delivery or one of the backlog. */
type Kind = "fresh" | "stored"

/** The state of an open breaker. */
interface Probing {
  /** The latest probe of each kind that is under way. */
  readonly latest: { [K in Kind]: Leave | undefined }
  /** When the next probe of the backlog may begin, as a time of `Timers.now`. */
  storedAt: number
  wait: number
  /** A fresh delivery was held since the last probe of the backlog began. */
  hasHeld: boolean
}

class Breaker {
  readonly #timers: Timers["Service"]
  #failures = 0
  #answeredAt = -Infinity
  #probing: Probing | undefined
  /** How many deliveries were ever held. */
  held = 0
  #owed = 0

  constructor(timers: Timers["Service"]) {
    this.#timers = timers
  }

  admitAnyway(): Admission {
    return new Leave(this, this.#timers.now(), undefined)
  }

  admitFresh(): Admission | undefined {
    const now = this.#timers.now()
    const probing = this.#probing
    if (probing === undefined) return new Leave(this, now, undefined)
    if (isFree(probing, "fresh", now)) return this.#probe(probing, now, "fresh")
    this.held += 1
    probing.hasHeld = true
    return undefined
  }

  admitStored(): Admission | undefined {
    const now = this.#timers.now()
    const probing = this.#probing
    if (probing === undefined) return new Leave(this, now, undefined)
    if (!this.#mayProbe(probing, now)) return undefined
    const { hasHeld } = probing
    probing.hasHeld = false
    return this.#probe(probing, now, "stored", hasHeld)
  }

  mayAdmitStored(): boolean {
    return this.#probing === undefined || this.#mayProbe(this.#probing, this.#timers.now())
  }

  #mayProbe(probing: Probing, now: number): boolean {
    return (probing.hasHeld || now >= probing.storedAt) && isFree(probing, "stored", now)
  }

  #probe({ latest }: Probing, now: number, kind: Kind, forHeld = false): Leave {
    return latest[kind] = new Leave(this, now, kind, forHeld, latest[kind])
  }

  takeHeld(): number {
    const owed = this.#owed
    this.#owed = 0
    return owed
  }

  notMade(leave: Leave): void {
    this.#leave(leave)
    // The held delivery may not have been written yet when this probe looked for it.
    if (leave.forHeld && this.#probing !== undefined) this.#probing.hasHeld = true
  }

  #leave(leave: Leave): void {
    const { kind } = leave
    if (kind !== undefined && this.#probing?.latest[kind] === leave) this.#probing.latest[kind] = undefined
  }

  ended(leave: Leave, isAway: boolean): void {
    this.#leave(leave)
    if (isAway) this.#failed(leave)
    else this.#answered(leave)
  }

  #answered(leave: Leave): void {
    this.#answeredAt = this.#timers.now()
    this.#failures = 0
    if (this.#probing !== undefined) {
      const { fresh, stored } = this.#probing.latest
      // Deliveries held because of probes that still hang are left out: nothing is known of those.
      const open = [fresh, stored].map((probe) => probe?.heldBefore ?? Infinity)
      this.#owed += this.held - Math.min(leave.heldSince, ...open)
    }
    this.#probing = undefined
  }

  #failed({ began, kind }: Leave): void {
    if (began < this.#answeredAt) return
    this.#failures += 1
    if (this.#failures < failuresToOpen) return
    if (this.#probing === undefined) {
      this.#probing = {
        latest: { fresh: undefined, stored: undefined },
        storedAt: this.#timers.now() + firstWait,
        wait: firstWait,
        hasHeld: false
      }
    } else if (kind === "stored") {
      this.#probing.wait = Math.min(2 * this.#probing.wait, longestWait)
      this.#probing.storedAt = this.#timers.now() + this.#probing.wait
    }
  }
}

const isFree = ({ latest }: Probing, kind: Kind, now: number): boolean =>
  latest[kind] === undefined || now - latest[kind].began >= patience

class Leave implements Admission {
  readonly #breaker: Breaker
  /** A time of `Timers.now`. */
  readonly began: number
  /** Undefined if the attempt is no probe. */
  readonly kind: Kind | undefined
  readonly forHeld: boolean
  readonly heldBefore: number
  /** How many were held before the probe whose place this one took, if that probe still hung. */
  readonly heldSince: number

  constructor(breaker: Breaker, began: number, kind: Kind | undefined, forHeld = false, before?: Leave) {
    this.#breaker = breaker
    this.began = began
    this.kind = kind
    this.forHeld = forHeld
    this.heldBefore = breaker.held
    this.heldSince = before?.heldBefore ?? breaker.held
  }

  get isProbe(): boolean {
    return this.kind !== undefined
  }

  ended({ outcome, status }: Pick<AttemptReport, "outcome" | "status">): void {
    this.#breaker.ended(this, Outcome.isAway(outcome, status))
  }

  notMade(): void {
    this.#breaker.notMade(this)
  }
}
