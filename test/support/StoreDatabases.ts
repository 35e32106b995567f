/** Databases for tests of the store, and the deliveries that these write. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { hash } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Body } from "../../src/domain/Body.ts"
import { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import { RecoveryStore } from "../../src/store/RecoveryStore.ts"
import * as SqlDeliveryStore from "../../src/store/SqlDeliveryStore.ts"
import * as SqlRecoveryStore from "../../src/store/SqlRecoveryStore.ts"
import type { NewDelivery } from "../../src/store/contract/Queue.ts"
import type { NumberedSettlement, Settlement, StoredAttempt } from "../../src/store/contract/Row.ts"
import type { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import * as MemoryDeliveryStore from "./MemoryDeliveryStore.ts"

/** An empty database for one test. */
export interface Database {
  /** A store on the database, until the scope ends. Two at a time are allowed only if replicas are. */
  readonly open: (owner: string, lease?: number) => Effect.Effect<DeliveryStore["Service"], never, Scope.Scope>
  /** The same with recovery. */
  readonly openRecovering: (owner: string) => Effect.Effect<RecoveringStore, never, Scope.Scope>
  /** The time of the store's clock. */
  readonly now: Effect.Effect<number>
  /** Lets time pass for the store. */
  readonly elapse: (millis: number) => Effect.Effect<void>
  /** How many transactions the effect takes to write rows. Nobody else may write to this database meanwhile. */
  readonly transactionsOf: (write: Effect.Effect<unknown, StoreUnavailable>) => Effect.Effect<number, StoreUnavailable>
  /** Sets the clock back while no store is open. */
  readonly setBack: (millis: number) => Effect.Effect<void>
}

interface RecoveringStore {
  readonly store: DeliveryStore["Service"]
  readonly recovery: RecoveryStore["Service"]
}

export class Databases extends Context.Service<Databases, {
  readonly create: Effect.Effect<Database, never, Scope.Scope>
}>()("sprayproxy/test/support/StoreDatabases/Databases") {
  static readonly layerMemory = Layer.succeed(
    Databases,
    Databases.of({
      create: Effect.sync(() => {
        const shared = new MemoryDeliveryStore.MemoryDatabase()
        return {
          ...testTime,
          transactionsOf: (write) => newIn(Effect.sync(() => Array(shared.operations).keys()), write),
          open: (owner, lease) =>
            opened(MemoryDeliveryStore.layer({ owner, shared, ...(lease === undefined ? {} : { lease }) })),
          openRecovering: (owner) => openedRecovering(MemoryDeliveryStore.layer({ owner, shared }))
        }
      })
    })
  )

  static readonly layerSqlite = Layer.succeed(
    Databases,
    Databases.of({
      create: Effect.gen(function*() {
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-sqlite-"))),
          (path) => Effect.sync(() => rmSync(path, { recursive: true }))
        )
        const location = { kind: "sqlite", path: join(directory, "deliveries.db") } as const
        return {
          ...testTime,
          transactionsOf: (write) => newIn(Effect.sync(() => commitsIn(`${location.path}-wal`)), write),
          open: (owner, lease) => opened(SqlDeliveryStore.layer(location, { owner, lease })),
          openRecovering: (owner) => openedRecovering(SqlRecoveryStore.layer(location, { owner }))
        }
      })
    })
  )
}

/** How many of these are there after an effect that were not there before. */
export const newIn = Effect.fnUntraced(function*<A, E>(
  names: Effect.Effect<Iterable<A>>,
  effect: Effect.Effect<unknown, E>
): Effect.fn.Return<number, E> {
  const before = new Set(yield* names)
  yield* effect
  return new Set([...yield* names].filter((name) => !before.has(name))).size
})

/** Where they end in a log of SQLite's: https://www.sqlite.org/fileformat2.html#walformat */
const commitsIn = (log: string): ReadonlyArray<number> => {
  const bytes = readFileSync(log)
  const frame = 24 + bytes.readUInt32BE(8)
  const salts = bytes.subarray(16, 24)
  const ends: Array<number> = []
  for (let at = 32; at + frame <= bytes.length && bytes.subarray(at + 8, at + 16).equals(salts); at += frame) {
    if (bytes.readUInt32BE(at + 4) > 0) ends.push(at)
  }
  return ends
}

/** The store of a layer, until the scope ends. */
export const opened = <E>(layer: Layer.Layer<DeliveryStore, E>) =>
  Effect.orDie(Effect.map(Layer.build(layer), Context.get(DeliveryStore)))

export const openedRecovering = <E>(layer: Layer.Layer<DeliveryStore | RecoveryStore, E>) =>
  Effect.orDie(
    Effect.map(Layer.build(layer), (services): RecoveringStore => ({
      store: Context.get(services, DeliveryStore),
      recovery: Context.get(services, RecoveryStore)
    }))
  )

/** The time of a store that runs on Effect's clock. */
const testTime = {
  now: Clock.currentTimeMillis,
  elapse: (millis: number) => TestClock.adjust(millis),
  setBack: (millis: number) => Effect.flatMap(Clock.currentTimeMillis, (now) => TestClock.setTime(now - millis))
}

let arrivals = 0

/** A UUIDv7 of which only the time matters. */
export const newId = () => {
  const digits = (arrivals += 1).toString(16).padStart(12, "0")
  return `${digits.slice(0, 8)}-${digits.slice(8)}-7000-8000-000000000000`
}

/** A backend's key. */
export const keyOf = (name: string) => `http://${name}.example.com`

export interface Described extends Partial<Omit<NewDelivery, "targets" | "body" | "bodyHash">> {
  readonly body?: Buffer
  readonly to?: string
  readonly heldFor?: string
}

/** `to` and `heldFor` have a letter for each backend. */
export const newDelivery = (
  { heldFor = "", to = heldFor === "" ? "a" : "", ...described }: Described = {}
): NewDelivery => {
  const id = described.id ?? newId()
  const body = described.body ?? Buffer.from(`{"delivery":"${id}"}`)
  const targets = [...to, ...heldFor].map((name) => {
    const key = keyOf(name)
    return { key, url: `${key}/`, held: heldFor.includes(name) }
  })
  return {
    id,
    requestId: `request-${id}`,
    hookId: "1",
    guid: `guid-${id}`,
    event: "push",
    method: "POST",
    target: "/",
    headers: ["Content-Type", "application/json"],
    ...described,
    // A body comes in chunks, of which some may be empty.
    body: [body.subarray(0, 2), ...Body.of(body.subarray(2)).chunks],
    bodyHash: hash("sha256", body, "hex"),
    targets
  }
}

export const attemptOf = (at: number, described: Partial<StoredAttempt> = {}): StoredAttempt => ({
  at,
  outcome: "failed",
  status: 502,
  latency: 12.5,
  error: undefined,
  answer: undefined,
  ...described
})

let settled = 0

/** A settlement with a number, as the writer gives it: of a first attempt, unless a test says otherwise. */
export const numbered = (settlement: Settlement): NumberedSettlement => ({
  isFirst: true,
  ...settlement,
  n: settled += 1
})
