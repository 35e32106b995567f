/** Attempts of GitHub's log, put together as deliveries. */
import type { LoggedAttempt } from "./GitHubLog.ts"

/** A delivery as a part of GitHub's log has it. If none of its attempts has failed, the latest answered one stands in. */
export interface LoggedDelivery {
  readonly guid: string
  readonly event: string
  readonly action: string | undefined
  /** The latest failed attempt. GitHub can make it again. */
  readonly attemptId: string
  /** The status of that attempt; 0: no answer. */
  readonly statusCode: number
  /** When an attempt first failed. */
  readonly failedAt: number
  /** The latest attempt of all. */
  readonly latestAt: number
  /** An attempt was answered 2xx. */
  readonly isAnswered: boolean
  /** An attempt was answered 413. */
  readonly isTooLarge: boolean
  /** When GitHub last held an attempt back that has no answer yet. */
  readonly throttledAt: number | undefined
}

interface Failed {
  latest: LoggedAttempt
  failedAt: number
  isTooLarge: boolean
}

/**
 * The part of GitHub's log that a look has read. It takes attempts in any order, and any of them twice: rows may come
 * late, and pages may overlap.
 */
export class LogReading {
  attempts = 0
  /** The times of the earliest and the latest attempt. Undefined: there is none. */
  earliest: number | undefined
  latest: number | undefined
  readonly #failed = new Map<string, Failed>()
  /** By GUID: the latest attempt that was answered 2xx. */
  readonly #answered = new Map<string, LoggedAttempt>()
  /** By GUID: when GitHub last held one back that has no answer. */
  readonly #throttled = new Map<string, number>()

  add(attempt: LoggedAttempt): void {
    this.attempts += 1
    const { deliveredAt, guid, statusCode, throttledAt } = attempt
    this.earliest = Math.min(deliveredAt, this.earliest ?? deliveredAt)
    this.latest = Math.max(deliveredAt, this.latest ?? deliveredAt)
    if (isSuccess(statusCode)) {
      const answered = this.#answered.get(guid)
      if (answered === undefined || isLater(attempt, answered)) this.#answered.set(guid, attempt)
      return
    }
    if (statusCode === 0 && throttledAt !== undefined) {
      this.#throttled.set(guid, Math.max(throttledAt, this.#throttled.get(guid) ?? 0))
    }
    const failed = this.#failed.get(guid)
    const isTooLarge = statusCode === 413
    if (failed === undefined) {
      this.#failed.set(guid, { latest: attempt, failedAt: deliveredAt, isTooLarge })
      return
    }
    if (isLater(attempt, failed.latest)) failed.latest = attempt
    failed.failedAt = Math.min(failed.failedAt, deliveredAt)
    failed.isTooLarge ||= isTooLarge
  }

  /** The deliveries of which an attempt has failed. */
  failed(): ReadonlyArray<LoggedDelivery> {
    return Array.from(this.#failed, ([guid, { failedAt, isTooLarge, latest }]) => {
      const answered = this.#answered.get(guid)
      return {
        guid,
        event: latest.event,
        action: latest.action,
        attemptId: latest.id,
        statusCode: latest.statusCode,
        failedAt,
        latestAt: Math.max(latest.deliveredAt, answered?.deliveredAt ?? 0),
        isAnswered: answered !== undefined,
        isTooLarge,
        throttledAt: this.#throttled.get(guid)
      }
    })
  }

  /** The deliveries of which every attempt was answered. A backend may lack one all the same. */
  answered(): ReadonlyArray<LoggedDelivery> {
    return Array.from(this.#answered.values()).filter(({ guid }) => !this.#failed.has(guid)).map((
      { action, deliveredAt, event, guid, id, statusCode }
    ) => ({
      guid,
      event,
      action,
      attemptId: id,
      statusCode,
      failedAt: deliveredAt,
      latestAt: deliveredAt,
      isAnswered: true,
      isTooLarge: false,
      throttledAt: undefined
    }))
  }
}

export const isSuccess = (statusCode: number): boolean => statusCode >= 200 && statusCode < 300

/** Ids grow, and order what has one time. A longer one is greater: both are digits without a leading zero. */
const isLater = (one: LoggedAttempt, other: LoggedAttempt): boolean =>
  one.deliveredAt === other.deliveredAt
    ? one.id.length === other.id.length ? one.id > other.id : one.id.length > other.id.length
    : one.deliveredAt > other.deliveredAt
