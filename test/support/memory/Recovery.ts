/** The records of recovery of a store in memory. */
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import {
  answerMillis,
  type FallbackEnd,
  type Missing,
  type Recalled,
  type RecoveryRecords,
  type RecoveryView,
  requestMillis
} from "../../../src/store/contract/Recovery.ts"
import type { Fallback, MemoryDatabase, Recovery, Replica } from "./Database.ts"

export const recoveryRecords = ({ database, owner }: Replica): RecoveryRecords => {
  const { deliveries, fallbacks, reconciliation, recoveries } = database

  const isLeader = (now: number) => reconciliation.lease?.owner === owner && reconciliation.lease.until > now

  const recallOf = (guids: ReadonlyArray<string>, hookId: string | undefined): ReadonlyArray<Recalled> =>
    [...new Set(guids)].flatMap((guid) => {
      const isOf = (one: { readonly guid: string | undefined; readonly hookId: string }) =>
        one.guid === guid && (hookId === undefined || one.hookId === hookId)
      const held = [...deliveries.values()].some(({ head }) => isOf(head))
      const kept = [...fallbacks.values()].filter(isOf)
      const fallback = kept.length === 0 ? undefined : kept.every(isComplete) ? "complete" : "lacking"
      const known = recoveries.get(guid)
      const recovery = known && { state: known.state, asks: known.asks }
      return held || fallback !== undefined || recovery !== undefined ? [{ guid, held, fallback, recovery }] : []
    })

  const begun = (now: number) => {
    reconciliation.startedAt ??= now
    return reconciliation.startedAt
  }

  return {
    lead: (millis) =>
      database.operation((now) => {
        begun(now)
        const { lease } = reconciliation
        // One that lies further ahead than any could is from a clock that was set back since.
        const isTaken = lease !== undefined && lease.until > now && lease.until <= now + 2 * millis
        if (isTaken && lease.owner !== owner) return false
        reconciliation.lease = { owner, until: now + millis }
        return true
      }),
    resign: database.operation(() => {
      if (reconciliation.lease?.owner === owner) delete reconciliation.lease
    }),
    progress: database.operation((now) => {
      const { failures, full, hookId, lease } = reconciliation
      const leader = lease !== undefined && lease.until > now ? lease.owner : undefined
      return { startedAt: begun(now), now, hookId, failures, full, leader }
    }),
    advance: ({ failures, full, hookId }) =>
      database.operation((now) => {
        begun(now)
        if (hookId !== undefined) reconciliation.hookId = hookId
        if (full !== undefined) reconciliation.fullBeganAt = full.beganAt
        for (const [kind, scannedTo] of [["failures", failures], ["full", full?.scannedTo]] as const) {
          if (scannedTo === undefined) continue
          const before = reconciliation[kind]?.scannedTo ?? scannedTo
          reconciliation[kind] = { scannedTo: Math.max(before, scannedTo), completedAt: now }
        }
      }),
    recall: (guids, hookId) => database.operation(() => recallOf(guids, hookId)),
    want: (wanted, { anew }) =>
      database.operation((now) => {
        let added = 0
        for (const one of wanted) {
          const known = recoveries.get(one.guid)
          if (known === undefined || (known.state === "given up" && anew)) {
            const wantedNow = { state: "wanted", asks: 0, dueAt: now, endedAt: undefined, reason: undefined } as const
            recoveries.set(one.guid, { ...(known === undefined ? one : joined(known, one)), ...wantedNow })
            added += 1
          } else if (!hasEnded(known)) {
            recoveries.set(one.guid, joined(known, one))
            if (anew) askAnew(recoveries.get(one.guid)!, now)
          }
        }
        return added
      }),
    giveUp: (given) =>
      database.operation((now) => {
        let ended = 0
        for (const { reason, ...one } of given) {
          const known = recoveries.get(one.guid)
          if (known !== undefined && hasEnded(known)) continue
          const before = known ?? { ...one, priority: 0, asks: 0, dueAt: now }
          recoveries.set(one.guid, { ...joined(before, one), state: "given up", reason, endedAt: now })
          ended += 1
        }
        return ended
      }),
    wanted: (limit) =>
      database.operation((now) =>
        [...recoveries.values()]
          .filter((recovery) => !hasEnded(recovery) && recovery.dueAt <= now)
          .toSorted((a, b) => a.priority - b.priority || b.failedAt - a.failedAt || (a.guid < b.guid ? -1 : 1))
          .slice(0, limit)
          .map(({ asks, attemptId, event, failedAt, guid, priority, run }) => ({
            guid,
            event,
            attemptId,
            failedAt,
            priority,
            run,
            asks
          }))
      ),
    asking: (guid, retryIn, asks) =>
      database.operation((now) => {
        const known = recoveries.get(guid)
        if (known === undefined || hasEnded(known)) return false
        const [recalled] = recallOf([guid], reconciliation.hookId)
        const hasArrived = recalled?.held === true || recalled?.fallback === "complete"
        if (hasArrived) recover(known, now)
        if (hasArrived || !isLeader(now)) return false
        Object.assign(known, { state: "asked", asks: asks ?? known.asks + 1, askedAt: now, dueAt: now + retryIn })
        return true
      }),
    lastArrivalAt: database.operation(() => {
      const received = [...deliveries.values()].map(({ receivedAt }) => receivedAt)
      const recovered = [...recoveries.values()].filter(({ state }) => state === "recovered")
      const arrivals = [...received, ...recovered.map(({ endedAt }) => endedAt!)]
      return arrivals.length === 0 ? undefined : Math.max(...arrivals)
    }),
    recoveryCounts: (run) =>
      database.operation(() => {
        const counted = [...recoveries.values()].filter((recovery) => run === undefined || recovery.run === run)
        const among = (...states: ReadonlyArray<string>) => counted.filter(({ state }) => states.includes(state))
        const missing = among("wanted", "asked").map(({ failedAt }) => failedAt)
        const arrived = among("recovered").map(({ endedAt }) => endedAt!)
        return {
          wanted: among("wanted").length,
          asked: among("asked").length,
          recovered: arrived.length,
          givenUp: among("given up").length,
          oldestFailedAt: missing.length === 0 ? undefined : Math.min(...missing),
          lastRecoveredAt: arrived.length === 0 ? undefined : Math.max(...arrived)
        }
      }),
    keepFallbacks: (records) =>
      database.operation((now) => {
        for (const { age, ...record } of records) {
          const print = fingerprint(record)
          if (
            [...deliveries.values()].some(({ bodyHash, head }) => print === fingerprint({ ...head, bodyHash }))
          ) continue
          const ends = new Map<string, FallbackEnd>(fallbacks.get(print)?.backends.map(({ end, key }) => [key, end]))
          for (const { end, key } of record.backends) ends.set(key, better(ends.get(key), end))
          const receivedAt = Math.min(now - age, fallbacks.get(print)?.receivedAt ?? Infinity)
          const backends = [...ends].map(([key, end]) => ({ key, end }))
          const kept = { ...record, backends, receivedAt, keptAt: now }
          if (kept.backends.length > 0) fallbacks.set(print, kept)
          const known = recoveries.get(record.guid)
          const isMissing = known !== undefined && !hasEnded(known) && isOurs(database, record.hookId)
          if (isMissing && isComplete(kept)) recover(known, now)
        }
      }),
    lackingSince: database.operation(() => {
      const keptSince = (reconciliation.fullBeganAt ?? 0) - 60_000
      const received = [...fallbacks.values()]
        .filter((kept) => kept.keptAt >= keptSince && !isComplete(kept) && isOurs(database, kept.hookId))
        .map(({ receivedAt }) => receivedAt)
      return received.length === 0 ? undefined : Math.min(...received)
    })
  }
}

/** A delivery arrives: its recovery ends. True: it only fills gaps. */
export const arrives = (database: MemoryDatabase, now: number, { guid, hookId }: NewDelivery): boolean => {
  const known = guid === undefined ? undefined : database.recoveries.get(guid)
  if (known === undefined || !isOurs(database, hookId)) return false
  const isAnswer = !hasEnded(known) || (known.askedAt !== undefined && known.askedAt > now - answerMillis)
  if (known.state !== "recovered") recover(known, now)
  return isAnswer
}

/** Takes the record of a fallback, if there is one of this delivery. */
export const takeFallback = ({ fallbacks }: MemoryDatabase, delivery: NewDelivery) => {
  const print = fingerprint(delivery)
  const found = fallbacks.get(print)
  fallbacks.delete(print)
  return found && new Map(found.backends.map(({ end, key }) => [key, end]))
}

export const recoveryOf = (
  database: MemoryDatabase,
  { guid, hookId }: { readonly guid: string | undefined; readonly hookId: string }
): { readonly recovery?: RecoveryView } => {
  const known = guid === undefined ? undefined : database.recoveries.get(guid)
  if (known === undefined || !isOurs(database, hookId)) return {}
  const { askedAt, asks, endedAt, failedAt, reason, state } = known
  const recoveredAt = state === "recovered" ? endedAt : undefined
  return { recovery: { state, failedAt, asks, askedAt, recoveredAt, reason } }
}

/** Removes up to so many of each: ended recoveries, and fallbacks, that are too old. True: there may be more. */
export const pruneRecoveries = (
  { fallbacks, recoveries }: MemoryDatabase,
  { age, limit, now }: { readonly age: number; readonly limit: number; readonly now: number }
): boolean => {
  const oldRecoveries = [...recoveries.values()].filter(({ endedAt }) => endedAt !== undefined && endedAt < now - age)
  const oldFallbacks = [...fallbacks].filter(([, { keptAt }]) => keptAt < now - age)
  for (const { guid } of oldRecoveries.slice(0, limit)) recoveries.delete(guid)
  for (const [print] of oldFallbacks.slice(0, limit)) fallbacks.delete(print)
  return oldRecoveries.length > limit || oldFallbacks.length > limit
}

const hasEnded = ({ state }: Recovery): boolean => state === "recovered" || state === "given up"

const recover = (recovery: Recovery, now: number): void => {
  Object.assign(recovery, { state: "recovered", endedAt: now, reason: undefined })
}

/** A recovery is of one App. Until its hook is known, the GUID decides. */
const isOurs = ({ reconciliation }: MemoryDatabase, hookId: string): boolean =>
  reconciliation.hookId === undefined || reconciliation.hookId === hookId

const joined = <Known extends Missing>(known: Known, { attemptId, failedAt, run }: Missing): Known => ({
  ...known,
  attemptId: BigInt(attemptId) > BigInt(known.attemptId) ? attemptId : known.attemptId,
  failedAt: Math.min(known.failedAt, failedAt),
  run: run ?? known.run
})

const askAnew = (recovery: Recovery, now: number): void => {
  recovery.asks = 0
  recovery.dueAt = Math.min(recovery.dueAt, Math.max(now, (recovery.askedAt ?? 0) + requestMillis))
}

const ends: ReadonlyArray<FallbackEnd> = ["delivered", "rejected", "dead", undefined]

const better = (one: FallbackEnd, other: FallbackEnd): FallbackEnd =>
  ends.indexOf(one) < ends.indexOf(other) ? one : other

const isComplete = ({ backends }: Pick<Fallback, "backends">): boolean => backends.every(({ end }) => end !== undefined)

const fingerprint = (one: {
  readonly guid: string | undefined
  readonly hookId: string
  readonly bodyHash: string
}): string => JSON.stringify([one.guid, one.hookId, one.bodyHash])
