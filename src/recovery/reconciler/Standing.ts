/** How the reconciler of this process is doing, for metrics, the log, and operators. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Log } from "../../observability/logs/Logging.ts"
import { Timers } from "../../runtime/Timers.ts"
import { type PassKind, ReconcilerMetrics } from "./ReconcilerMetrics.ts"

/** Why passes fail, and since when, in Unix milliseconds. */
interface Failing {
  readonly since: number
  readonly reason: string
}

export class Standing {
  isLeading = false
  failing: Failing | undefined
  isHeldBack = false
  readonly #metrics: ReconcilerMetrics["Service"]
  readonly #log: Log["Service"]
  readonly #clock: Clock.Clock
  readonly #timers: Timers["Service"]
  /** The last full pass has failed. One over failures that comes to its end does not make up for it. */
  #hasFullFailed = false
  #told: { readonly kind: string; readonly at: number } | undefined

  constructor(
    metrics: ReconcilerMetrics["Service"],
    log: Log["Service"],
    clock: Clock.Clock,
    timers: Timers["Service"]
  ) {
    this.#metrics = metrics
    this.#log = log
    this.#clock = clock
    this.#timers = timers
  }

  static readonly make = Effect.gen(function*() {
    return new Standing(yield* ReconcilerMetrics, yield* Log, yield* Clock.Clock, yield* Timers)
  })

  /** This process becomes the reconciler, or is it no longer. */
  leads(isLeading: boolean): void {
    if (isLeading) this.#log.write("info", "this process looks for missing deliveries now")
    else this.#log.write("info", "this process looks for missing deliveries no longer")
    this.isLeading = isLeading
    this.#metrics.leading(isLeading)
    // The next reconciler says it anew.
    this.#clear()
    this.isHeldBack = false
    this.#metrics.heldBack(false)
  }

  passed(pass: PassKind): void {
    if (pass === "full") this.#hasFullFailed = false
    if (this.#hasFullFailed) return
    if (this.failing !== undefined) this.#log.write("info", "missing deliveries can be looked for again")
    this.#clear()
  }

  /** The same kind of failure is logged at most every 15 minutes. */
  failed(pass: PassKind, { kind, reason }: { readonly kind: string; readonly reason: string }): void {
    if (pass === "full") this.#hasFullFailed = true
    const since = this.failing?.since ?? this.#clock.currentTimeMillisUnsafe()
    this.failing = { since, reason }
    this.#metrics.failingSince(since / 1_000)
    const at = this.#timers.now()
    if (this.#told?.kind === kind && at - this.#told.at < silence) return
    this.#told = { kind, at }
    this.#log.write("warn", "missing deliveries can't be looked for", { pass, kind, error: reason })
  }

  heldBack(isHeldBack: boolean): void {
    if (this.isHeldBack === isHeldBack) return
    this.isHeldBack = isHeldBack
    this.#metrics.heldBack(isHeldBack)
    if (isHeldBack) this.#log.write("warn", "nothing arrives although GitHub was asked for it: requests are held back")
    else this.#log.write("info", "deliveries arrive again: requests are held back no longer")
  }

  #clear(): void {
    this.#hasFullFailed = false
    this.failing = undefined
    this.#told = undefined
    this.#metrics.failingSince(0)
  }
}

/** Milliseconds. */
const silence = 900_000
