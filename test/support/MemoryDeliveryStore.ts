/**
 * A delivery store without a disk, for tests. It keeps the whole contract on Effect's `Clock`, so that `TestClock`
 * drives it.
 *
 * **Details**
 *
 * - Two layers with one `shared` database and different owners are two replicas.
 * - The database can be told to fail, to hang, and to lose its answers.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type { Outcome } from "../../src/domain/Outcome.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import type { StoredBackend } from "../../src/store/contract/Backends.ts"
import {
  type DeliveryFilter,
  type DeliveryView,
  mostShown,
  type RowName,
  rowsOnPage,
  type RowView
} from "../../src/store/contract/Operator.ts"
import type { Claimed, NewDelivery, Recorded, RowTarget } from "../../src/store/contract/Queue.ts"
import {
  leaseMillis,
  longestDelay,
  type NumberedSettlement,
  type RowState,
  type StoredAttempt
} from "../../src/store/contract/Row.ts"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import type { Retention } from "../../src/store/contract/Upkeep.ts"

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

interface KeptBackend extends Omit<StoredBackend, "expiresIn"> {
  readonly changedAt: number
  isCleared: boolean
}

export interface Options {
  readonly owner?: string
  /** Milliseconds. */
  readonly lease?: number
  readonly shared?: MemoryDatabase
}

export const layer = (options: Options = {}): Layer.Layer<DeliveryStore> =>
  Layer.sync(DeliveryStore, () => make(options.shared ?? new MemoryDatabase(), options))

interface Delivery {
  readonly id: string
  readonly bodyHash: string
  readonly bodyLength: number
  readonly receivedAt: number
  readonly head: Omit<NewDelivery, "targets" | "bodyHash" | "body" | "headers">
  /** Undefined if it is no longer kept. */
  content: { readonly headers: ReadonlyArray<string>; readonly body: Buffer } | undefined
  readonly rows: Map<string, Row>
}

interface Row {
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

const make = (
  database: MemoryDatabase,
  { lease = leaseMillis, owner = "memory" }: Options
): DeliveryStore["Service"] => {
  const { backends, deliveries } = database

  const write = (now: number, delivery: NewDelivery): Recorded => {
    const known = deliveries.get(delivery.id)
    if (known !== undefined) {
      const owned = [...known.rows.values()].filter((row) => isUnderWay(row, now) && row.owner === owner)
      return { id: known.id, isRedelivery: false, owned: owned.map(({ key }) => key) }
    }
    const earlier = delivery.guid === undefined
      ? undefined
      : newestFirst(deliveries).find((stored) => isSame(stored, delivery))
    if (earlier !== undefined) return writeAgain(now, delivery, earlier)
    const { body, bodyHash, headers, targets, ...head } = delivery
    const stored: Delivery = {
      id: delivery.id,
      bodyHash,
      bodyLength: Buffer.concat(body).length,
      receivedAt: now,
      head,
      content: { headers: [...headers], body: Buffer.concat(body) },
      rows: new Map()
    }
    deliveries.set(delivery.id, stored)
    return { id: delivery.id, isRedelivery: false, owned: begin(now, stored, targets) }
  }

  const writeAgain = (now: number, { body, headers, targets }: NewDelivery, earlier: Delivery): Recorded => {
    const lacking = targets.filter(({ key }) => !has(earlier.rows.get(key)))
    const idle = (lacking.length === 0 ? targets : lacking).filter(({ key }) => {
      const row = earlier.rows.get(key)
      return row === undefined || !isUnderWay(row, now)
    })
    if (idle.length > 0) earlier.content = { headers: [...headers], body: Buffer.concat(body) }
    return { id: earlier.id, isRedelivery: true, owned: begin(now, earlier, idle) }
  }

  /** Makes rows pending. Those of this process are owned at once. */
  const begin = (now: number, delivery: Delivery, targets: ReadonlyArray<RowTarget>): ReadonlyArray<string> => {
    for (const { held, key, url } of targets) {
      const row = delivery.rows.get(key) ?? newRow(key)
      delivery.rows.set(key, row)
      row.url = url
      askFor(row, now)
      if (!held) take(row, now)
    }
    return targets.filter(({ held }) => !held).map(({ key }) => key)
  }

  const take = (row: Row, now: number) => {
    row.owner = owner
    row.dueAt = now + lease
  }

  const settle = (now: number, { attempt, become, id, key, n }: NumberedSettlement) => {
    const row = deliveries.get(id)?.rows.get(key)
    if (row === undefined) return
    if (attempt !== undefined) {
      if (row.numbers.has(n)) return
      row.numbers.add(n)
      row.attempts.push(attempt)
      row.tries += 1
      row.lastOutcome = attempt.outcome
    }
    const isOurs = row.state === "pending" && (row.owner === owner || !isUnderWay(row, now))
    if (!isOurs && become !== "delivered" && become !== "rejected") return
    if (typeof become === "string") end(row, become, now)
    else {
      row.owner = undefined
      row.dueAt = now + become.retryIn
    }
  }

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

  return DeliveryStore.of({
    write: (batch) =>
      database.operation((now) => {
        const recorded = batch.deliveries.map((delivery) => write(now, delivery))
        for (const settlement of batch.settlements) settle(now, settlement)
        return recorded
      }),
    probe: database.operation(() => {}),
    due: (keys) =>
      database.operation((now) => {
        const due = new Set(rowsOf(deliveries).filter(([, row]) => isDue(row, now)).map(([, { key }]) => key))
        return keys.filter((key) => due.has(key))
      }),
    claim: (key, limit, order) =>
      Effect.andThen(
        database.beforeClaim(key),
        database.operation((now): ReadonlyArray<Claimed> => {
          const due = rowsOf(deliveries)
            .filter(([, row]) => row.key === key && isDue(row, now) && (order === "oldest" || row.owner === undefined))
            .toSorted(([one, a], [other, b]) =>
              order === "oldest" ? a.dueAt - b.dueAt || (one.id < other.id ? -1 : 1) : one.id < other.id ? 1 : -1
            )
            .slice(0, limit)
          for (const [, row] of due) take(row, now)
          return due.map(([{ bodyLength, id }, { since, tries }]) => ({
            id,
            key,
            tries,
            age: Math.max(0, now - since),
            bodyLength
          }))
        })
      ),
    load: (id) =>
      Effect.andThen(
        Effect.suspend(() => database.beforeLoad),
        database.operation(() => {
          const delivery = deliveries.get(id)
          return delivery?.content && { ...delivery.head, receivedAt: delivery.receivedAt, ...delivery.content }
        })
      ),
    release: database.operation((now) => {
      for (const [, row] of rowsOf(deliveries)) {
        if (row.state !== "pending" || row.owner !== owner) continue
        row.owner = undefined
        row.dueAt = now
      }
    }),
    usage: database.operation(() => {
      let bytes = 0
      for (const { content } of deliveries.values()) {
        if (content !== undefined) bytes += content.body.length + content.headers.join("").length
      }
      return bytes
    }),
    backlogs: database.operation((now) =>
      [...Map.groupBy(openRowsOf(deliveries), ({ key }) => key)].map(([key, rows]) => {
        const pending = rows.filter(({ state }) => state === "pending")
        return {
          key,
          pending: pending.length,
          dead: rows.filter(({ state }) => state === "dead").length,
          oldestAge: pending.length === 0 ? undefined : Math.max(0, ...pending.map(({ since }) => now - since))
        }
      })
    ),
    prune: (retention, limit) => database.operation((now) => prune(database, retention, { limit, now, lease })),
    list: (filter, { after, limit }) =>
      database.operation((now) => {
        const matching = newestFirst(deliveries).filter((delivery) =>
          (after === undefined || delivery.id < after) && matches(delivery, filter, now) &&
          (!isOfRows(filter) || [...delivery.rows.values()].some((row) => matchesRow(row, filter)))
        )
        let rows = 0
        const fits = (delivery: Delivery, at: number) => (rows += delivery.rows.size) <= rowsOnPage || at === 0
        const end = matching.slice(0, limit).findIndex((delivery, at) => !fits(delivery, at))
        const page = matching.slice(0, end < 0 ? limit : end)
        return {
          deliveries: page.map((delivery) => viewOf(delivery, now)),
          next: matching.length > page.length ? page.at(-1)?.id : undefined
        }
      }),
    show: (guid) =>
      database.operation((now) =>
        newestFirst(deliveries).filter(({ head, id }) => head.guid === guid || id === guid).slice(0, mostShown).map(
          (delivery) => Object.assign(viewOf(delivery, now), { attempts: attemptsOf(delivery) })
        )
      ),
    redeliver: (filter, limit, after) =>
      database.operation((now) => {
        const matching = rowsOf(deliveries).toSorted(byName).filter(([delivery, row]) =>
          isAfter(delivery.id, row.key, after) && filter.among?.includes(row.key) !== false &&
          delivery.content !== undefined &&
          (filter.id === undefined || delivery.id === filter.id) &&
          matches(delivery, filter, now) && matchesRow(row, filter) && !isUnderWay(row, now) && !isDue(row, now)
        )
        const redelivered = matching.slice(0, limit)
        for (const [, row] of redelivered) {
          if (row.state === "pending") row.dueAt = now
          else askFor(row, now)
        }
        const last = redelivered.at(-1)
        return {
          redelivered: redelivered.length,
          remaining: after === undefined ? matching.length - redelivered.length : undefined,
          next: last === undefined || matching.length <= limit ? undefined : { id: last[0].id, key: last[1].key }
        }
      }),
    backends: database.operation((now) =>
      living(now).map(({ expiresAt, key, registeredAt, url }) => ({
        key,
        url,
        registeredAt,
        expiresAt,
        expiresIn: expiresAt === undefined ? undefined : expiresAt - now
      }))
    ),
    putBackend: ({ age = 0, key, ttl, url }, limit) =>
      database.backendChange(key, (now) => {
        if (isSuperseded(key, now, age)) return "superseded"
        const known = living(now).find((backend) => backend.key === key)
        if (known === undefined && living(now).length >= limit) return "limit"
        const expiresAt = ttl === undefined ? undefined : now + ttl
        const registeredAt = known?.registeredAt ?? now - age
        backends.set(key, { key, url, registeredAt, expiresAt, changedAt: now - age, isCleared: false })
        return known === undefined ? "added" : "renewed"
      }),
    deleteBackend: (key, age = 0) =>
      database.backendChange(key, (now) => {
        if (isSuperseded(key, now, age)) return false
        const known = living(now).find((backend) => backend.key === key)
        if (known === undefined && age === 0) return false
        const changedAt = now - age
        backends.set(key, {
          ...(known ?? { key, url: key, registeredAt: changedAt }),
          expiresAt: now,
          changedAt,
          isCleared: false
        })
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
  })
}

const newRow = (key: string): Row => ({
  key,
  url: "",
  state: "pending",
  since: 0,
  tries: 0,
  dueAt: 0,
  owner: undefined,
  settledAt: undefined,
  lastOutcome: undefined,
  attempts: [],
  numbers: new Set()
})

/** Makes a row due as if it had just been received. */
const askFor = (row: Row, now: number) => {
  row.state = "pending"
  row.since = now
  row.tries = 0
  row.dueAt = now
  row.owner = undefined
  row.settledAt = undefined
}

const end = (row: Row, state: RowState, now: number) => {
  row.state = state
  row.owner = undefined
  row.settledAt = now
}

/**
 * Whether the backend has the delivery. A rejected one counts: GitHub is told success, because sending it again would
 * not help.
 */
const has = (row: Row | undefined): boolean => row?.state === "delivered" || row?.state === "rejected"

const isUnderWay = (row: Row, now: number): boolean =>
  row.state === "pending" && row.owner !== undefined && row.dueAt > now

const isDue = (row: Row, now: number): boolean => row.state === "pending" && row.dueAt <= now

const isSame = (stored: Delivery, { bodyHash, guid, hookId }: NewDelivery): boolean =>
  stored.head.guid === guid && stored.head.hookId === hookId && stored.bodyHash === bodyHash

const newestFirst = (deliveries: ReadonlyMap<string, Delivery>): ReadonlyArray<Delivery> =>
  [...deliveries.values()].toSorted((a, b) => a.id < b.id ? 1 : -1)

const rowsOf = (deliveries: ReadonlyMap<string, Delivery>): ReadonlyArray<readonly [Delivery, Row]> =>
  [...deliveries.values()].flatMap((delivery) => [...delivery.rows.values()].map((row) => [delivery, row] as const))

const byName = (
  [one, { key: oneKey }]: readonly [Delivery, Row],
  [other, { key: otherKey }]: readonly [Delivery, Row]
) => one.id === other.id ? (oneKey < otherKey ? -1 : 1) : one.id < other.id ? -1 : 1

const isAfter = (id: string, key: string, after: RowName | undefined): boolean =>
  after === undefined || id > after.id || (id === after.id && key > after.key)

/** The rows that a backend still has to get, or never got. */
const openRowsOf = (deliveries: ReadonlyMap<string, Delivery>): ReadonlyArray<Row> =>
  rowsOf(deliveries).map(([, row]) => row).filter(({ state }) => state === "pending" || state === "dead")

const isOfRows = ({ backend, state }: DeliveryFilter): boolean => backend !== undefined || state !== undefined

const matchesRow = (row: Row, { backend, state }: DeliveryFilter): boolean =>
  (backend === undefined || row.key === backend) && (state === undefined || row.state === state)

const matches = ({ head, receivedAt }: Delivery, { age, event, guid, since }: DeliveryFilter, now: number): boolean =>
  (event === undefined || head.event === event) && (guid === undefined || head.guid === guid) &&
  (since === undefined || receivedAt >= since) && (age === undefined || receivedAt >= now - age)

const viewOf = (delivery: Delivery, now: number): DeliveryView => ({
  id: delivery.id,
  requestId: delivery.head.requestId,
  hookId: delivery.head.hookId,
  guid: delivery.head.guid,
  event: delivery.head.event,
  receivedAt: delivery.receivedAt,
  bodyLength: delivery.bodyLength,
  hasBody: delivery.content !== undefined,
  rows: [...delivery.rows.values()].map((row): RowView => ({
    key: row.key,
    url: row.url,
    state: row.state,
    since: row.since,
    tries: row.tries,
    dueAt: row.state === "pending" ? row.dueAt : undefined,
    underWay: isUnderWay(row, now),
    lastOutcome: row.lastOutcome,
    settledAt: row.settledAt
  }))
})

const attemptsOf = ({ rows }: Delivery) =>
  [...rows.values()]
    .flatMap(({ attempts, key }) => attempts.map((attempt) => Object.assign({ key }, attempt)))
    .toSorted((a, b) => a.at - b.at)

interface Pruning {
  readonly limit: number
  readonly now: number
  readonly lease: number
}

const prune = (database: MemoryDatabase, retention: Retention, { lease, limit, now }: Pruning): boolean => {
  const { deliveries } = database
  // A clock that is behind the latest seen time was set back. Rows that wait would then wait for so much longer.
  const furthest = database.seenAt > now + 5_000 ? 0 : longestDelay
  let looked = 0
  for (const delivery of deliveries.values()) {
    if (looked === limit) return true
    if (pruneDelivery(deliveries, delivery, retention, { furthest, lease, now })) looked += 1
  }
  database.seenAt = now
  return false
}

/** Prunes one delivery. Says whether there was anything to do. */
const pruneDelivery = (
  deliveries: Map<string, Delivery>,
  delivery: Delivery,
  retention: Retention,
  { furthest, lease, now }: { readonly furthest: number; readonly lease: number; readonly now: number }
): boolean => {
  const rows = [...delivery.rows.values()]
  const pending = rows.filter(({ state }) => state === "pending")
  const tooFar = pending.filter(({ dueAt, owner }) =>
    dueAt > now + (owner === undefined ? furthest : Math.max(furthest, lease))
  )
  for (const row of tooFar) row.dueAt = row.owner === undefined ? now : now + lease
  const tooOld = pending.filter((row) => now - row.since > retention.maxAge && !isUnderWay(row, now))
  for (const row of tooOld) end(row, "dead", now)
  if (tooFar.length > 0 || tooOld.length > 0) return true
  if (pending.length > 0) return false
  const idle = now - Math.max(delivery.receivedAt, ...rows.map(({ settledAt }) => settledAt ?? 0))
  const hasDead = rows.some(({ state }) => state === "dead")
  if (idle > (hasDead ? retention.dead : Math.max(retention.dead, retention.delivered))) {
    return deliveries.delete(delivery.id)
  }
  if (hasDead || idle <= retention.delivered || delivery.content === undefined) return false
  delivery.content = undefined
  return true
}
