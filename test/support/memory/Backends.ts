/** The dynamic backends of a store in memory. */
import type { BackendRecords } from "../../../src/store/contract/Backends.ts"
import type { Replica } from "./Database.ts"
import { end, rowsOf } from "./Rows.ts"

export const backendRecords = ({ database }: Replica): BackendRecords => {
  const { backends, deliveries } = database

  const living = (now: number) =>
    [...backends.values()].filter(({ expiresAt }) => expiresAt === undefined || expiresAt > now)

  const isSuperseded = (key: string, now: number, age: number) =>
    age > 0 && (backends.get(key)?.changedAt ?? -Infinity) > now - age

  /** Cancels the rows of a backend whose time is over. */
  const cancel = (now: number, key: string): void => {
    for (const [, row] of rowsOf(deliveries)) {
      if (row.key === key && row.state === "pending") end(row, "cancelled", now)
    }
  }

  return {
    backends: database.operation((now) =>
      living(now).map(({ expiresAt, failingSince, filter, key, registeredAt, url }) => ({
        key,
        url,
        registeredAt,
        expiresAt,
        expiresIn: expiresAt === undefined ? undefined : expiresAt - now,
        filter,
        failingFor: failingSince === undefined ? undefined : now - failingSince
      }))
    ),
    putBackend: ({ age = 0, filter, key, ttl, url }, limit) =>
      database.backendChange(key, (now) => {
        if (isSuperseded(key, now, age)) return "superseded"
        const known = living(now).find((backend) => backend.key === key)
        if (known === undefined && living(now).length >= limit) return "limit"
        const expiresAt = ttl === undefined ? undefined : now + ttl
        const registeredAt = known?.registeredAt ?? now - age
        const changedAt = now - age
        backends.set(key, {
          key,
          url,
          registeredAt,
          expiresAt,
          changedAt,
          filter,
          failingSince: undefined,
          isCleared: false
        })
        return known === undefined ? "added" : "renewed"
      }),
    deleteBackend: (key, age = 0) =>
      database.backendChange(key, (now) => {
        if (isSuperseded(key, now, age)) return false
        const known = living(now).find((backend) => backend.key === key)
        if (known === undefined && age === 0) return false
        const changedAt = now - age
        backends.set(key, {
          ...(known ?? { key, url: key, registeredAt: changedAt, filter: undefined, failingSince: undefined }),
          expiresAt: now,
          changedAt,
          isCleared: false
        })
        cancel(now, key)
        return true
      }),
    noteFailing: (key, isFailing) =>
      database.backendChange(key, (now) => {
        const known = living(now).find((backend) => backend.key === key)
        if (known !== undefined) known.failingSince = isFailing ? known.failingSince ?? now : undefined
      }),
    deleteDeadBackend: (key, millis) =>
      database.backendChange(key, (now) => {
        const known = living(now).find((backend) => backend.key === key)
        if (known?.failingSince === undefined || known.failingSince > now - millis) return false
        backends.set(key, { ...known, expiresAt: now, changedAt: now, isCleared: false })
        cancel(now, key)
        return true
      }),
    clearBackends: (others) =>
      database.operation((now) => {
        for (const backend of backends.values()) {
          const { changedAt, expiresAt, isCleared, key } = backend
          if (expiresAt === undefined || expiresAt > now) continue
          if (isCleared) {
            if (changedAt <= now - 7 * 24 * 3_600_000) backends.delete(key)
            continue
          }
          if (!others.has(key)) cancel(now, key)
          if (others.has(key) || expiresAt <= now - 60_000) backend.isCleared = true
        }
      })
  }
}
