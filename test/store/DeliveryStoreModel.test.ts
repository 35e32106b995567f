/**
 * The store as a queue against a model of it: whatever happens in whatever order, no delivery is lost, goes to a wrong
 * backend, or is sent again without reason.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { DeliveryStore } from "../../src/store/DeliveryStore.ts"
import type { NewDelivery, Recorded } from "../../src/store/contract/Queue.ts"
import { leaseMillis, type NumberedSettlement, type RowState, type Settlement } from "../../src/store/contract/Row.ts"
import { attemptOf, type Database, Databases, keyOf, newDelivery, numbered } from "../support/StoreDatabases.ts"

const names = ["a", "b", "c"] as const
const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))
const replica = upTo(1)
const whither = Schema.Literals(["sent", "held", "not at all"])

/** The commands. One that needs an attempt under way picks one of those there are. */
const Command = Schema.Union([
  Schema.TaggedStruct("Write", {
    replica,
    guid: Schema.Literals(["one", "two", "three", "none"]),
    body: Schema.Literals(["short", "long"]),
    to: Schema.Struct({ a: whither, b: whither, c: whither })
  }),
  Schema.TaggedStruct("Claim", {
    replica,
    name: Schema.Literals(names),
    limit: Schema.Literals([1, 2, 5]),
    order: Schema.Literals(["oldest", "newest"])
  }),
  Schema.TaggedStruct("Settle", {
    pick: upTo(1_000),
    become: Schema.Literals(["delivered", "delivered", "rejected", "failed", "failed", "given back"]),
    isRepeated: Schema.Boolean
  }),
  Schema.TaggedStruct("Deliver", {}),
  Schema.TaggedStruct("Wait", { millis: Schema.Literals([1, 500, 2_000, 10_000, leaseMillis, 120_000]) }),
  Schema.TaggedStruct("Release", { replica }),
  Schema.TaggedStruct("Crash", { replica }),
  Schema.TaggedStruct("Redeliver", { replica, guid: Schema.Literals(["one", "two", "three"]) }),
  Schema.TaggedStruct("Unregister", { replica, name: Schema.Literals(names) }),
  Schema.TaggedStruct("Prune", { replica })
])
type Command = typeof Command.Type
type CommandOf<Tag extends Command["_tag"]> = Extract<Command, { readonly _tag: Tag }>

const retention = { delivered: 60_000, dead: 150_000, maxAge: 200_000 }

/** The settlement of a failed attempt on a row whose delivering has gone on for `age`. */
const afterFailure = (age: number, tries: number): Settlement["become"] =>
  age > retention.maxAge ? "dead" : { retryIn: Math.min(60_000, 1_000 * 2 ** tries) }

interface ModelRow {
  readonly name: string
  state: RowState
  since: number
  dueAt: number
  owner: string | undefined
  tries: number
  settledAt: number
}

interface ModelDelivery {
  readonly id: string
  readonly print: string | undefined
  readonly guid: string | undefined
  readonly receivedAt: number
  hasBody: boolean
  readonly rows: Map<string, ModelRow>
}

/** The contract of `DeliveryStore`, in as little code as possible. */
class Model {
  readonly deliveries = new Map<string, ModelDelivery>()
  now = 0

  rows(): ReadonlyArray<readonly [ModelDelivery, ModelRow]> {
    return [...this.deliveries.values()].flatMap((one) => [...one.rows.values()].map((row) => [one, row] as const))
  }

  isUnderWay(row: ModelRow): boolean {
    return row.state === "pending" && row.owner !== undefined && row.dueAt > this.now
  }

  isDue(row: ModelRow): boolean {
    return row.state === "pending" && row.dueAt <= this.now
  }

  write(owner: string, { bodyHash, guid, id, targets }: NewDelivery): Recorded {
    const print = guid === undefined ? undefined : `${guid} ${bodyHash}`
    const known = print === undefined ? undefined : [...this.deliveries.values()].find((one) => one.print === print)
    const delivery = known ?? { id, print, guid, receivedAt: this.now, hasBody: true, rows: new Map() }
    this.deliveries.set(delivery.id, delivery)
    const isDone = ({ key }: { readonly key: string }) => {
      const state = delivery.rows.get(key)?.state
      return state === "delivered" || state === "rejected"
    }
    const lacking = targets.every(isDone) ? targets : targets.filter((target) => !isDone(target))
    const begun = lacking.filter(({ key }) => {
      const row = delivery.rows.get(key)
      return row === undefined || !this.isUnderWay(row)
    })
    for (const { held, key } of begun) {
      delivery.rows.set(key, {
        name: key,
        state: "pending",
        since: this.now,
        dueAt: held ? this.now : this.now + leaseMillis,
        owner: held ? undefined : owner,
        tries: 0,
        settledAt: 0
      })
    }
    if (begun.length > 0) delivery.hasBody = true
    const owned = begun.flatMap(({ held, key }) => held ? [] : [key])
    return { id: delivery.id, isRedelivery: known !== undefined, owned }
  }

  claim(owner: string, key: string, limit: number, order: "oldest" | "newest") {
    const isOldest = order === "oldest"
    const due = this.rows()
      .filter(([, row]) => row.name === key && this.isDue(row) && (isOldest || row.owner === undefined))
      .toSorted(([one, a], [other, b]) =>
        isOldest ? a.dueAt - b.dueAt || (one.id < other.id ? -1 : 1) : one.id < other.id ? 1 : -1
      )
    const claimed = due.slice(0, limit)
    for (const [, row] of claimed) Object.assign(row, { owner, dueAt: this.now + leaseMillis })
    return claimed.map(([{ id }, { name, since, tries }]) => ({ id, key: name, tries, age: this.now - since }))
  }

  settle(owner: string, { attempt, become, id, key }: Settlement): void {
    const row = this.deliveries.get(id)?.rows.get(key)
    if (row === undefined) return
    if (attempt !== undefined) row.tries += 1
    const isOurs = row.state === "pending" && (row.owner === owner || !this.isUnderWay(row))
    if (!isOurs && become !== "delivered" && become !== "rejected") return
    if (typeof become === "string") this.end(row, become)
    else Object.assign(row, { owner: undefined, dueAt: this.now + become.retryIn })
  }

  end(row: ModelRow, state: RowState): void {
    Object.assign(row, { state, owner: undefined, settledAt: this.now })
  }

  release(owner: string): void {
    for (const [, row] of this.rows()) {
      if (row.state === "pending" && row.owner === owner) Object.assign(row, { owner: undefined, dueAt: this.now })
    }
  }

  redeliver(guid: string): number {
    const asked = this.rows().filter(([delivery, row]) =>
      delivery.guid === guid && delivery.hasBody && !this.isUnderWay(row) && !this.isDue(row)
    )
    for (const [, row] of asked) {
      if (row.state !== "pending") Object.assign(row, { state: "pending", since: this.now, tries: 0 })
      Object.assign(row, { owner: undefined, dueAt: this.now })
    }
    return asked.length
  }

  cancel(key: string): void {
    for (const [, row] of this.rows()) {
      if (row.name === key && row.state === "pending") this.end(row, "cancelled")
    }
  }

  prune(): void {
    for (const delivery of this.deliveries.values()) {
      const rows = [...delivery.rows.values()]
      for (const row of rows) {
        const isOld = this.now - row.since > retention.maxAge
        if (row.state === "pending" && isOld && !this.isUnderWay(row)) this.end(row, "dead")
      }
      if (rows.some(({ state }) => state === "pending")) continue
      const age = this.now - Math.max(...rows.map(({ settledAt }) => settledAt))
      const limit = rows.some(({ state }) => state === "dead") ? retention.dead : retention.delivered
      if (age > limit) delivery.hasBody = false
      if (age > retention.dead) this.deliveries.delete(delivery.id)
    }
  }
}

interface Attempt {
  readonly owner: string
  readonly id: string
  readonly key: string
  readonly tries: number
  readonly since: number
}

interface Process {
  readonly owner: string
  readonly store: DeliveryStore["Service"]
  readonly scope: Scope.Closeable
}

/** The store and its model, and who works with them. */
class Trial {
  readonly model = new Model()
  readonly #database: Database
  readonly #replicas: boolean
  #processes: Array<Process> = []
  #owners = 0
  /** Attempts under way; a process may have several of one row when its lease was over. */
  #attempts: Array<Attempt> = []
  /** Deliveries that a backend has taken, and that nobody has asked for again. */
  readonly #taken = new Set<string>()

  constructor(database: Database, replicas: boolean) {
    this.#database = database
    this.#replicas = replicas
  }

  start = Effect.suspend(() => Effect.forEach(this.#replicas ? [0, 1] : [0], () => this.#open, { discard: true }))

  readonly #open = Effect.suspend(() => {
    const owner = `process ${this.#owners += 1}`
    return Effect.flatMap(Scope.make(), (scope) =>
      Effect.map(
        Effect.provideService(this.#database.open(owner), Scope.Scope, scope),
        (store) => void this.#processes.push({ owner, store, scope })
      ))
  })

  end = Effect.suspend(() =>
    Effect.forEach(this.#processes, ({ scope }) => Scope.close(scope, Exit.void), { discard: true })
  )

  run = Effect.fnUntraced({ self: this }, function*(this: Trial, command: Command) {
    this.model.now = yield* this.#database.now
    const { owner, store } = this.#process("replica" in command ? command.replica : 0)
    // oxlint-disable-next-line no-underscore-dangle -- Schema's name for it
    switch (command._tag) {
      case "Write":
        return yield* this.#write(owner, store, command)
      case "Claim":
        return yield* this.#claim(owner, store, command)
      case "Settle":
        return yield* this.#settle(command)
      case "Deliver":
        while (this.#attempts.length > 0) yield* this.#settle({ become: "delivered", isRepeated: false, pick: 0 })
        return
      case "Wait":
        return yield* this.#database.elapse(command.millis)
      case "Release":
        this.#forget(owner)
        this.model.release(owner)
        return yield* store.release
      case "Crash":
        return yield* this.#crash(command.replica)
      case "Redeliver": {
        for (const [{ guid, hasBody, id }, row] of this.model.rows()) {
          if (guid === command.guid && hasBody) this.#taken.delete(`${id} ${row.name}`)
        }
        const expected = { redelivered: this.model.redeliver(command.guid), remaining: 0, next: undefined }
        return assert.deepStrictEqual(yield* store.redeliver({ guid: command.guid }, 1_000), expected)
      }
      case "Unregister": {
        const key = keyOf(command.name)
        this.model.cancel(key)
        yield* store.putBackend({ key, url: key, ttl: undefined }, 1_000)
        return assert.isTrue(yield* store.deleteBackend(key))
      }
      case "Prune":
        this.model.prune()
        return assert.isFalse(yield* store.prune(retention, 1_000))
    }
  })

  #process(which: number): Process {
    return this.#processes[which % this.#processes.length]!
  }

  #forget(owner: string): void {
    this.#attempts = this.#attempts.filter((attempt) => attempt.owner !== owner)
  }

  #write = Effect.fnUntraced(
    { self: this },
    function*(this: Trial, owner: string, store: Process["store"], { body, guid, to }: CommandOf<"Write">) {
      const sent = names.filter((name) => to[name] === "sent").join("")
      const heldFor = names.filter((name) => to[name] === "held").join("")
      if (sent === "" && heldFor === "") return
      const delivery = newDelivery({
        guid: guid === "none" ? undefined : guid,
        body: Buffer.from(body),
        to: sent,
        heldFor
      })
      const expected = this.model.write(owner, delivery)
      const [recorded] = yield* store.write({ deliveries: [delivery], settlements: [] })
      assert.deepStrictEqual(recorded, expected)
      // A backend that has the delivery gets it again only if all have it.
      const rows = this.model.deliveries.get(expected.id)!.rows
      for (const { key } of delivery.targets) {
        if (rows.get(key)!.state === "pending") this.#taken.delete(`${expected.id} ${key}`)
      }
      for (const key of expected.owned) this.#begin({ owner, id: expected.id, key, tries: 0, since: this.model.now })
    }
  )

  #claim = Effect.fnUntraced(
    { self: this },
    function*(this: Trial, owner: string, store: Process["store"], { limit, name, order }: CommandOf<"Claim">) {
      const expected = this.model.claim(owner, keyOf(name), limit, order)
      const claimed = yield* store.claim(keyOf(name), limit, order)
      assert.deepStrictEqual(claimed.map(({ age, id, key, tries }) => ({ id, key, tries, age })), expected)
      for (const { age, id, key, tries } of claimed) {
        this.#begin({ owner, id, key, tries, since: this.model.now - age })
        assert.isDefined(yield* store.load(id), "what is claimed can be sent")
      }
    }
  )

  #begin(attempt: Attempt): void {
    assert.isFalse(this.#taken.has(`${attempt.id} ${attempt.key}`), "sent again to a backend that has it")
    this.#attempts.push(attempt)
  }

  #settle = Effect.fnUntraced(
    { self: this },
    function*(this: Trial, { become, isRepeated, pick }: Omit<CommandOf<"Settle">, "_tag">) {
      if (this.#attempts.length === 0) return
      const [ended] = this.#attempts.splice(pick % this.#attempts.length, 1)
      const { id, key, owner, since, tries } = ended!
      const { store } = this.#processes.find((process) => process.owner === owner)!
      const settlement: Settlement = {
        id,
        key,
        attempt: become === "given back" ? undefined : attemptOf(this.model.now),
        isFirst: tries === 0,
        become: become === "failed"
          ? afterFailure(this.model.now - since, tries)
          : become === "given back"
          ? { retryIn: 0 }
          : become
      }
      if (typeof settlement.become === "string" && settlement.become !== "dead" && this.model.deliveries.has(id)) {
        this.#taken.add(`${id} ${key}`)
      }
      this.model.settle(owner, settlement)
      const settlements = [numbered(settlement)]
      yield* store.write({ deliveries: [], settlements })
      // The answer was lost.
      if (isRepeated) yield* store.write({ deliveries: [], settlements })
    }
  )

  /** A process is gone at once, with what it knew, and another one comes. */
  #crash = Effect.fnUntraced({ self: this }, function*(this: Trial, which: number) {
    const [gone] = this.#processes.splice(which % this.#processes.length, 1)
    yield* Scope.close(gone!.scope, Exit.void)
    this.#forget(gone!.owner)
    // Nobody else can have a database that takes one process: what was under way is due.
    if (!this.#replicas) this.model.release(gone!.owner)
    yield* this.#open
  })

  /** All that is stored is as the model says. */
  compare = Effect.gen({ self: this }, function*() {
    const now = this.model.now = yield* this.#database.now
    const { deliveries } = yield* this.#process(0).store.list({}, { limit: 1_000 })
    const stored = deliveries.map(({ hasBody, id, rows }) => ({
      id,
      hasBody,
      rows: rows.map(({ dueAt, key, since, state, tries, underWay }) => ({ key, state, since, tries, dueAt, underWay }))
        .toSorted((a, b) => a.key < b.key ? -1 : 1)
    }))
    const expected = [...this.model.deliveries.values()].map(({ hasBody, id, rows }) => ({
      id,
      hasBody,
      rows: [...rows.values()].map((row) => ({
        key: row.name,
        state: row.state,
        since: row.since,
        tries: row.tries,
        dueAt: row.state === "pending" ? row.dueAt : undefined,
        underWay: this.model.isUnderWay(row)
      })).toSorted((a, b) => a.key < b.key ? -1 : 1)
    })).toSorted((a, b) => a.id < b.id ? 1 : -1)
    assert.deepStrictEqual(stored, expected, `at ${now} ${JSON.stringify([stored, expected])}`)
  })

  /**
   * All processes die, and another one sends what is left, to backends that take everything or to ones that never will:
   * all that was written ends, after no more attempts than its age allows.
   */
  drain = Effect.fnUntraced({ self: this }, function*(this: Trial, areUp: boolean) {
    while (this.#processes.length > 0) yield* Scope.close(this.#processes.pop()!.scope, Exit.void)
    yield* this.#open
    const { store } = this.#process(0)
    const pending = new Set(
      this.model.rows().filter(([, { state }]) => state === "pending").map(([{ id }, { name }]) => `${id} ${name}`)
    )
    const rounds = 2 + Math.ceil(retention.maxAge / leaseMillis)
    for (let round = 0; round < rounds; round += 1) {
      yield* this.#database.elapse(leaseMillis)
      const now = yield* this.#database.now
      for (const name of names) {
        const claimed = yield* store.claim(keyOf(name), 1_000, "oldest")
        const settlements: Array<NumberedSettlement> = []
        for (const { age, id, key, tries } of claimed) {
          assert.isTrue(pending.has(`${id} ${key}`), "nobody had asked for it")
          assert.isDefined(yield* store.load(id))
          const become = areUp ? "delivered" : afterFailure(age, tries)
          if (typeof become === "string") pending.delete(`${id} ${key}`)
          settlements.push(numbered({ id, key, attempt: attemptOf(now), become }))
        }
        yield* store.write({ deliveries: [], settlements })
      }
    }
    assert.deepStrictEqual([...pending], [])
    assert.deepStrictEqual((yield* store.backlogs).filter((backlog) => backlog.pending > 0), [])
  })
}

const commands = Arbitrary.array(Arbitrary.schema(Command), { minLength: 1, maxLength: 60 })

for (
  const { databases, name, replicas, runs } of [
    { name: "two replicas in memory", databases: Databases.layerMemory, replicas: true, runs: 300 },
    { name: "SQLite", databases: Databases.layerSqlite, replicas: false, runs: 25 }
  ]
) {
  describe(`whatever happens, ${name}`, () => {
    layer(databases)((it) => {
      it.effect.prop(
        "lose nothing, send nothing astray, and send nothing twice that arrived",
        { happening: commands, areUp: Schema.Boolean },
        ({ areUp, happening }) =>
          Effect.gen(function*() {
            const { create } = yield* Databases
            const trial = new Trial(yield* create, replicas)
            yield* trial.start
            for (const command of happening) {
              yield* trial.run(command)
              yield* trial.compare
            }
            yield* trial.drain(areUp)
            yield* trial.end
          }).pipe(Effect.scoped),
        { arbitrary: { runs, size: 60 } }
      )
    })
  })
}
