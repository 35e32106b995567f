/** What every `DeliveryStore` has to do, on whatever it is built. */
import { assert, describe, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import {
  type DeliveryFilter,
  type DeliveryStore,
  leaseMillis,
  longestDelay,
  type NewDelivery,
  type Retention,
  type RowView,
  type Settlement,
  type StoredAttempt
} from "../src/DeliveryStore.ts"
import { attemptOf, Databases, type Described, keyOf, newDelivery, newId } from "./StoreDatabases.ts"

type Store = DeliveryStore["Service"]

/** As GitHub sends it again: with an id of our own. */
const again = (delivery: NewDelivery, { heldFor = "", to = "" }: Pick<Described, "to" | "heldFor">): NewDelivery => ({
  ...delivery,
  ...newDelivery({ ...delivery, id: newId(), to, heldFor }),
  bodyHash: delivery.bodyHash
})

const keep: Retention = { delivered: 1e12, dead: 1e12, maxAge: 1e12 }

const setUp = Effect.gen(function*() {
  const { create } = yield* Databases
  const database = yield* create
  const store = yield* database.open("one")
  const { elapse, now } = database

  const write = (...deliveries: ReadonlyArray<NewDelivery>) => store.write({ deliveries, settlements: [] })
  const settleAll = (...settlements: ReadonlyArray<Settlement>) => store.write({ deliveries: [], settlements })
  const settle = (
    id: string,
    name: string,
    become: Settlement["become"],
    attempt: StoredAttempt | undefined = undefined
  ) => settleAll({ id, key: keyOf(name), attempt, become })
  const view = Effect.fnUntraced(function*(id: string) {
    const [shown] = yield* store.show(id)
    return assertDefined(shown, `delivery ${id}`)
  })
  const row = (id: string, name: string) =>
    Effect.map(view(id), ({ rows }) => assertDefined(rows.find(({ key }) => key === keyOf(name)), `row ${name}`))
  const claim = (name: string, limit = 100, order: "oldest" | "newest" = "oldest") =>
    Effect.map(store.claim(keyOf(name), limit, order), (claimed) => claimed.map(({ id }) => id))
  const isDue = (name: string) => Effect.map(store.due([keyOf(name)]), (due) => due.length > 0)
  /** Until there is no more. */
  const prune = Effect.fnUntraced(function*(retention: Partial<Retention>, limit = 100) {
    let steps = 1
    for (; steps < 100 && (yield* store.prune({ ...keep, ...retention }, limit)); steps += 1) {
      /* the next step */
    }
    return steps
  })
  const listed = (filter: DeliveryFilter) =>
    Effect.map(store.list(filter, { limit: 100 }), ({ deliveries }) => deliveries.map(({ id }) => id))
  return { claim, database, elapse, isDue, listed, now, prune, row, settle, settleAll, store, view, write }
})

const assertDefined = <A>(value: A | undefined, what: string): A => {
  assert.isDefined(value, what)
  return value!
}

const outcomeOf = (id: string, at: number, become: Settlement["become"]): Settlement => ({
  id,
  key: keyOf("a"),
  attempt: attemptOf(at),
  become
})

/** What can't be kept as text may be replaced. */
const withoutNul = ({ answer, ...attempt }: StoredAttempt & { readonly key: string }) => ({
  ...attempt,
  answer: answer?.replace(/[\0\ufffd]/, "")
})

const stateOf = ({ state }: RowView) => state

const keysOf = (names: string) => [...names].map(keyOf)

const sorted = (texts: ReadonlyArray<string>) => texts.toSorted()

const hours = (count: number) => count * 3_600_000

export const deliveryStoreContract = (
  what: string,
  databases: Layer.Layer<Databases>,
  { replicas }: { readonly replicas: boolean }
) =>
  testLayer(databases, { timeout: "60 seconds" })(`${what} as a delivery store`, (it) => {
    describe("writing", () => {
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at))
      const bodies: ReadonlyArray<readonly [string, Buffer]> = [
        ["no bytes", Buffer.alloc(0)],
        ["each byte there is", bytes],
        ["bytes that are no text", Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0, 0])],
        ["a mebibyte", randomBytes(1024 * 1024)]
      ]
      it.effect.each(bodies)("keeps a body byte for byte: %s", ([, body]) =>
        Effect.gen(function*() {
          const { store, write } = yield* setUp
          const delivery = newDelivery({ body })
          yield* write(delivery)
          const loaded = assertDefined(yield* store.load(delivery.id), "the delivery")
          assert.strictEqual(Buffer.compare(loaded.body, body), 0)
        }))

      it.effect("keeps all of a delivery, and headers in their order, with those that repeat", () =>
        Effect.gen(function*() {
          const { now, store, write } = yield* setUp
          const delivery = newDelivery({
            guid: "gu\u00efd \u00ff'\"\\ %",
            event: "p\u00fcll_request",
            target: "/a%2Fb/..;x?q=%00&'=\u00fc",
            hookId: "",
            headers: [
              ["X-Twice", "one"],
              ["x-twice", "two"],
              ["X-Twice", "one"],
              ["X-Empty", ""],
              ["X-Latin", bytes.toString("latin1", 0x80)],
              ["X-Tab", "a\tb \\u0000 \"quoted\""]
            ].flat()
          })
          yield* write(delivery)
          const { bodyHash: _hash, targets: _targets, ...received } = delivery
          assert.deepStrictEqual(yield* store.load(delivery.id), { ...received, receivedAt: yield* now })
        }))

      it.effect("keeps that there was no GUID and no event", () =>
        Effect.gen(function*() {
          const { store, view, write } = yield* setUp
          const delivery = newDelivery({ guid: undefined, event: undefined })
          yield* write(delivery)
          const loaded = yield* store.load(delivery.id)
          assert.deepStrictEqual([loaded?.guid, loaded?.event], [undefined, undefined])
          const { event, guid } = yield* view(delivery.id)
          assert.deepStrictEqual([guid, event], [undefined, undefined])
        }))

      it.effect("tells for each delivery, in order, which rows are the writer's", () =>
        Effect.gen(function*() {
          const { row, write } = yield* setUp
          const both = newDelivery({ to: "ab" })
          const some = newDelivery({ to: "b", heldFor: "c" })
          const none = newDelivery({ to: "" })
          assert.deepStrictEqual(yield* write(some, both, none), [
            { id: some.id, isRedelivery: false, owned: keysOf("b") },
            { id: both.id, isRedelivery: false, owned: keysOf("ab") },
            { id: none.id, isRedelivery: false, owned: [] }
          ])
          assert.isTrue((yield* row(some.id, "b")).underWay)
          assert.isFalse((yield* row(some.id, "c")).underWay)
        }))

      it.effect("takes a write of nothing", () =>
        Effect.gen(function*() {
          const { write } = yield* setUp
          assert.deepStrictEqual(yield* write(), [])
        }))

      it.effect("changes nothing when the same is written again", () =>
        Effect.gen(function*() {
          const { listed, settle, view, write } = yield* setUp
          const named = newDelivery({ to: "ab", heldFor: "c" })
          const nameless = newDelivery({ guid: undefined })
          const first = yield* write(named, nameless)
          const before = [yield* view(named.id), yield* view(nameless.id)]
          assert.deepStrictEqual(yield* write(named, nameless), first)
          assert.deepStrictEqual([yield* view(named.id), yield* view(nameless.id)], before)
          yield* settle(named.id, "a", "delivered")
          const [recorded] = yield* write(named)
          assert.deepStrictEqual(recorded, { id: named.id, isRedelivery: false, owned: keysOf("b") })
          assert.sameMembers([...yield* listed({})], [named.id, nameless.id])
        }))

      it.effect("knows nothing of a delivery that was not written", () =>
        Effect.gen(function*() {
          const { store } = yield* setUp
          assert.isUndefined(yield* store.load(newId()))
          assert.deepStrictEqual(yield* store.show(newId()), [])
        }))

      it.effect("loses none of 2,000 that are written at once", () =>
        Effect.gen(function*() {
          const { claim, store, write } = yield* setUp
          const deliveries = Array.from({ length: 2_000 }, () => newDelivery({ to: "a", heldFor: "b" }))
          const recorded = yield* Effect.forEach(deliveries, (delivery) => write(delivery), {
            concurrency: "unbounded"
          })
          assert.isTrue(recorded.every(([one], at) => one?.id === deliveries[at]!.id && one.owned.length === 1))
          yield* store.release
          const ids = sorted(deliveries.map(({ id }) => id))
          for (const name of ["a", "b"]) assert.deepStrictEqual(sorted(yield* claim(name, 3_000)), ids)
        }))

      it.effect("keeps what was written when it is closed and opened again", () =>
        Effect.gen(function*() {
          const database = yield* (yield* Databases).create
          const delivery = newDelivery({ to: "a", heldFor: "b" })
          yield* Effect.scoped(Effect.gen(function*() {
            const store = yield* database.open("one")
            yield* store.write({ deliveries: [delivery], settlements: [] })
            yield* store.putBackend({ key: keyOf("b"), url: keyOf("b"), ttl: undefined }, 10)
          }))
          const store = yield* database.open("two")
          assert.isDefined(yield* store.load(delivery.id))
          assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("b"))
          // Whoever began an attempt is gone: it is made again when the lease is over, at the latest.
          yield* database.elapse(leaseMillis)
          assert.sameMembers([...yield* store.due(keysOf("ab"))], keysOf("ab"))
        }))
    })

    describe("recognising a redelivery", () => {
      it.effect("by hook, GUID and body together", () =>
        Effect.gen(function*() {
          const { write } = yield* setUp
          const delivery = newDelivery({ hookId: "7", guid: "same" })
          yield* write(delivery)
          const [recorded] = yield* write({
            ...delivery,
            id: newId(),
            headers: ["X-Other", "header"],
            target: "/other"
          })
          assert.isTrue(recorded?.isRedelivery)
          assert.strictEqual(recorded?.id, delivery.id)
        }))

      it.effect.each(
        [
          ["of another hook", { hookId: "8" }],
          ["with another body, as a replayed one would have", { body: Buffer.from("replayed") }],
          ["with another GUID", { guid: "other" }],
          ["without a GUID", { guid: undefined }]
        ] as ReadonlyArray<readonly [string, Described]>
      )("takes a delivery for a new one that is %s", ([, difference]) =>
        Effect.gen(function*() {
          const { listed, write } = yield* setUp
          const known = { hookId: "7", guid: "same", body: Buffer.from("body") }
          const other = newDelivery({ ...known, ...difference })
          yield* write(newDelivery({ ...known }))
          assert.deepStrictEqual(yield* write(other), [{ id: other.id, isRedelivery: false, owned: keysOf("a") }])
          assert.strictEqual((yield* listed({})).length, 2)
        }))

      it.effect("never without a GUID", () =>
        Effect.gen(function*() {
          const { listed, write } = yield* setUp
          const deliveries = [1, 2].map(() => newDelivery({ guid: undefined, body: Buffer.from("same") }))
          const recorded = [...yield* write(deliveries[0]!), ...yield* write(deliveries[1]!)]
          assert.deepStrictEqual(recorded.map(({ isRedelivery }) => isRedelivery), [false, false])
          assert.strictEqual((yield* listed({})).length, 2)
        }))

      it.effect("within one write: the second finds the first's attempts under way", () =>
        Effect.gen(function*() {
          const { listed, row, write } = yield* setUp
          const first = newDelivery({ to: "a", heldFor: "b" })
          const second = again(first, { to: "abc" })
          assert.deepStrictEqual(yield* write(first, second), [
            { id: first.id, isRedelivery: false, owned: keysOf("a") },
            { id: first.id, isRedelivery: true, owned: keysOf("bc") }
          ])
          for (const name of "abc") assert.isTrue((yield* row(first.id, name)).underWay)
          assert.deepStrictEqual(yield* listed({}), [first.id])
        }))

      it.effect("among many that are written at once: each backend's row has one owner", () =>
        Effect.gen(function*() {
          const { listed, store } = yield* setUp
          const first = newDelivery({ to: "ab" })
          const all = [first, ...Array.from({ length: 19 }, () => again(first, { to: "ab" }))]
          const recorded = yield* Effect.forEach(
            all,
            (delivery) => store.write({ deliveries: [delivery], settlements: [] }),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(recorded.filter(([one]) => one?.isRedelivery === false).length, 1)
          assert.deepStrictEqual(sorted(recorded.flatMap(([one]) => one!.owned)), keysOf("ab"))
          assert.strictEqual((yield* listed({})).length, 1)
        }))
    })

    describe("a redelivery", () => {
      it.effect("goes only to backends that do not have it, and on which no attempt is under way", () =>
        Effect.gen(function*() {
          const { row, settle, store, write } = yield* setUp
          const delivery = newDelivery({ to: "abcdefg" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          yield* settle(delivery.id, "b", "rejected")
          yield* settle(delivery.id, "c", "dead")
          yield* store.cancel(keyOf("d"))
          yield* settle(delivery.id, "e", { retryIn: 60_000 })
          yield* settle(delivery.id, "f", { retryIn: 0 })
          const [recorded] = yield* write(again(delivery, { to: "abcdefgh" }))
          assert.deepStrictEqual(recorded, { id: delivery.id, isRedelivery: true, owned: keysOf("cdefh") })
          for (const name of "cdefgh") assert.isTrue((yield* row(delivery.id, name)).underWay, name)
          assert.strictEqual((yield* row(delivery.id, "a")).state, "delivered")
          assert.strictEqual((yield* row(delivery.id, "b")).state, "rejected")
        }))

      it.effect("goes to all if all have it: somebody asked on purpose", () =>
        Effect.gen(function*() {
          const { row, settle, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          yield* settle(delivery.id, "b", "rejected")
          const [recorded] = yield* write(again(delivery, { to: "ab" }))
          assert.deepStrictEqual(recorded?.owned, keysOf("ab"))
          assert.isTrue((yield* row(delivery.id, "a")).underWay)
        }))

      it.effect("goes nowhere while the last attempt that is missing is under way", () =>
        Effect.gen(function*() {
          const { row, settle, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          const [recorded] = yield* write(again(delivery, { to: "ab" }))
          assert.deepStrictEqual(recorded?.owned, [])
          assert.strictEqual((yield* row(delivery.id, "a")).state, "delivered")
        }))

      it.effect("takes over a row whose owner let its lease lapse", () =>
        Effect.gen(function*() {
          const { elapse, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* elapse(leaseMillis)
          const [recorded] = yield* write(again(delivery, { to: "a" }))
          assert.deepStrictEqual(recorded?.owned, keysOf("a"))
        }))

      it.effect("leaves backends alone that it does not go to", () =>
        Effect.gen(function*() {
          const { row, settle, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "dead")
          yield* settle(delivery.id, "b", "delivered")
          const [recorded] = yield* write(again(delivery, { to: "b" }))
          assert.deepStrictEqual(recorded?.owned, keysOf("b"))
          assert.strictEqual((yield* row(delivery.id, "a")).state, "dead")
        }))

      it.effect("makes held rows due, and nobody's", () =>
        Effect.gen(function*() {
          const { claim, settle, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "dead")
          yield* settle(delivery.id, "b", "delivered")
          const [recorded] = yield* write(again(delivery, { heldFor: "abc" }))
          assert.deepStrictEqual(recorded?.owned, [])
          assert.deepStrictEqual([yield* claim("a"), yield* claim("b"), yield* claim("c")], [
            [delivery.id],
            [],
            [delivery.id]
          ])
        }))

      it.effect("begins a delivering of its own", () =>
        Effect.gen(function*() {
          const { elapse, now, row, settle, view, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          const receivedAt = yield* now
          yield* settle(delivery.id, "a", "dead", attemptOf(receivedAt))
          yield* elapse(hours(80))
          yield* write(again(delivery, { to: "a" }))
          const { settledAt, since, state } = yield* row(delivery.id, "a")
          assert.deepStrictEqual([state, since, settledAt], ["pending", yield* now, undefined])
          const { attempts, receivedAt: kept } = yield* view(delivery.id)
          assert.strictEqual(kept, receivedAt)
          assert.strictEqual(attempts.length, 1)
        }))

      it.effect("brings back a body that was gone", () =>
        Effect.gen(function*() {
          const { elapse, prune, settle, store, write } = yield* setUp
          const delivery = newDelivery({ body: randomBytes(1_000) })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          yield* elapse(hours(2))
          yield* prune({ delivered: hours(1) })
          assert.isUndefined(yield* store.load(delivery.id))
          const [recorded] = yield* write(again(delivery, { to: "a" }))
          assert.deepStrictEqual(recorded?.owned, keysOf("a"))
          assert.deepStrictEqual((yield* store.load(recorded!.id))?.body, delivery.body)
          yield* prune({ delivered: hours(1) })
          assert.isDefined(yield* store.load(recorded!.id), "it is needed")
        }))
    })

    describe("claiming", () => {
      it.effect("hands out a held row at once, with what its attempt needs to know", () =>
        Effect.gen(function*() {
          const { isDue, now, store, write } = yield* setUp
          const delivery = newDelivery({ heldFor: "a", body: Buffer.alloc(1_234) })
          yield* write(delivery)
          assert.isTrue(yield* isDue("a"))
          assert.deepStrictEqual(yield* store.claim(keyOf("a"), 1, "oldest"), [
            { id: delivery.id, key: keyOf("a"), tries: 0, since: yield* now, bodyLength: 1_234 }
          ])
          assert.isFalse(yield* isDue("a"))
        }))

      it.effect("says which of some backends have something due", () =>
        Effect.gen(function*() {
          const { settle, store, write } = yield* setUp
          const waiting = newDelivery({ to: "c" })
          yield* write(newDelivery({ heldFor: "ab", to: "e" }), newDelivery({ heldFor: "a" }), waiting)
          yield* settle(waiting.id, "c", { retryIn: 1_000 })
          assert.deepStrictEqual(sorted(yield* store.due(keysOf("abcdef"))), keysOf("ab"))
          assert.deepStrictEqual(yield* store.due(keysOf("bc")), keysOf("b"))
          assert.deepStrictEqual(yield* store.due([]), [])
        }))

      it.effect("takes the longest due first, or last, and no more than asked for", () =>
        Effect.gen(function*() {
          const { claim, elapse, settle, write } = yield* setUp
          const [first, second, third, fourth] = [1, 2, 3, 4].map(() => newDelivery()) as [
            NewDelivery,
            NewDelivery,
            NewDelivery,
            NewDelivery
          ]
          yield* write(first, second, third, fourth)
          for (const [{ id }, retryIn] of [[first, 3_000], [second, 1_000], [third, 4_000], [fourth, 2_000]] as const) {
            yield* settle(id, "a", { retryIn })
          }
          yield* elapse(10_000)
          assert.deepStrictEqual(yield* claim("a", 1, "newest"), [third.id])
          assert.deepStrictEqual(yield* claim("a", 2, "oldest"), [second.id, fourth.id])
          assert.deepStrictEqual(yield* claim("a", 2, "newest"), [first.id])
        }))

      it.effect("takes the earlier of two deliveries that are due since the same moment", () =>
        Effect.gen(function*() {
          const { claim, write } = yield* setUp
          const deliveries = Array.from({ length: 5 }, () => newDelivery({ heldFor: "a" }))
          yield* write(...deliveries.toReversed())
          const ids = deliveries.map(({ id }) => id)
          assert.deepStrictEqual(yield* claim("a", 1, "newest"), [ids[4]])
          assert.deepStrictEqual(yield* claim("a"), ids.slice(0, 4))
        }))

      it.effect("takes nothing of another backend", () =>
        Effect.gen(function*() {
          const { claim, write } = yield* setUp
          const delivery = newDelivery({ heldFor: "ab" })
          yield* write(delivery, newDelivery({ heldFor: "b" }))
          assert.deepStrictEqual(yield* claim("a"), [delivery.id])
          assert.strictEqual((yield* claim("b")).length, 2)
        }))

      it.effect("hands out no row twice, until its lease is over", () =>
        Effect.gen(function*() {
          const { claim, elapse, isDue, write } = yield* setUp
          const delivery = newDelivery({ heldFor: "a" })
          yield* write(delivery)
          assert.deepStrictEqual(yield* claim("a"), [delivery.id])
          yield* elapse(leaseMillis - 1)
          assert.deepStrictEqual([yield* isDue("a"), yield* claim("a")], [false, []])
          yield* elapse(1)
          assert.deepStrictEqual([yield* isDue("a"), yield* claim("a")], [true, [delivery.id]])
        }))

      it.effect("leaves to the writer what it wrote, until its lease is over", () =>
        Effect.gen(function*() {
          const { claim, elapse, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* elapse(leaseMillis - 1)
          assert.deepStrictEqual(yield* claim("a"), [])
          yield* elapse(1)
          assert.deepStrictEqual(yield* claim("a"), [delivery.id])
        }))

      it.effect("makes due what its owner gives back, and nothing else", () =>
        Effect.gen(function*() {
          const { claim, row, settle, store, write } = yield* setUp
          const [mine, waiting, done] = [newDelivery(), newDelivery({ to: "b" }), newDelivery({ to: "c" })]
          yield* write(mine, waiting, done)
          yield* settle(waiting.id, "b", { retryIn: 60_000 })
          yield* settle(done.id, "c", "delivered")
          yield* store.release
          assert.deepStrictEqual(yield* store.due(keysOf("abc")), keysOf("a"))
          assert.deepStrictEqual(yield* claim("a"), [mine.id])
          assert.strictEqual((yield* row(mine.id, "a")).tries, 0)
        }))
    })

    describe("settling", () => {
      it.effect.each(["delivered", "rejected", "dead"] as const)("ends a row as %s, for good", (become) =>
        Effect.gen(function*() {
          const { elapse, isDue, now, row, settle, view, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* elapse(500)
          const attempt = attemptOf((yield* now) - 20, { outcome: become === "dead" ? "timed out" : become })
          yield* settle(delivery.id, "a", become, attempt)
          const settled = yield* row(delivery.id, "a")
          assert.deepInclude(settled, {
            state: become,
            tries: 1,
            underWay: false,
            dueAt: undefined,
            lastOutcome: attempt.outcome,
            settledAt: yield* now
          })
          assert.deepStrictEqual((yield* view(delivery.id)).attempts, [{ ...attempt, key: keyOf("a") }])
          yield* elapse(hours(100))
          assert.isFalse(yield* isDue("a"))
        }))

      it.effect("makes a row due when its retry is", () =>
        Effect.gen(function*() {
          const { elapse, isDue, now, row, settle, store, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          const since = yield* now
          yield* settle(delivery.id, "a", { retryIn: 5_000 }, attemptOf(since))
          assert.deepInclude(yield* row(delivery.id, "a"), {
            state: "pending",
            dueAt: since + 5_000,
            underWay: false,
            settledAt: undefined,
            tries: 1,
            lastOutcome: "failed"
          })
          yield* elapse(4_999)
          assert.isFalse(yield* isDue("a"))
          yield* elapse(1)
          const [claimed] = yield* store.claim(keyOf("a"), 1, "oldest")
          assert.deepInclude(claimed, { id: delivery.id, tries: 1, since })
        }))

      it.effect("counts no attempt for a row that is given back without one", () =>
        Effect.gen(function*() {
          const { isDue, row, settle, view, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* settle(delivery.id, "a", { retryIn: 0 })
          assert.isTrue(yield* isDue("a"))
          assert.deepInclude(yield* row(delivery.id, "a"), { tries: 0, lastOutcome: undefined })
          assert.deepStrictEqual((yield* view(delivery.id)).attempts, [])
        }))

      it.effect("keeps each attempt with all that is known of it", () =>
        Effect.gen(function*() {
          const { now, settle, view, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          const at = yield* now
          const attempts = [
            attemptOf(at, { outcome: "unreachable", status: undefined, error: "ECONNREFUSED", latency: 0.25 }),
            attemptOf(at + 1, { status: 503, answer: "<html>na\u00efve \u0000 \ud83d\ude80" }),
            attemptOf(at + 2, { outcome: "timed out", status: undefined, latency: 15_000 })
          ]
          for (const attempt of attempts) {
            yield* settle(delivery.id, "a", { retryIn: 0 }, attempt)
          }
          const kept = (yield* view(delivery.id)).attempts
          assert.deepStrictEqual(
            kept.map(withoutNul),
            attempts.map((attempt) =>
              withoutNul({ ...attempt, key: keyOf("a") })
            )
          )
        }))

      it.effect("ignores what is said of a row that is not there, and takes the rest", () =>
        Effect.gen(function*() {
          const { row, settleAll, view, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* settleAll(
            { id: newId(), key: keyOf("a"), attempt: attemptOf(1), become: "delivered" },
            { id: delivery.id, key: keyOf("z"), attempt: attemptOf(1), become: "delivered" },
            { id: delivery.id, key: keyOf("a"), attempt: attemptOf(2), become: "delivered" }
          )
          const { attempts, rows } = yield* view(delivery.id)
          assert.deepStrictEqual(rows.map(({ key }) => key), keysOf("a"))
          assert.deepStrictEqual(attempts.map(({ at }) => at), [2])
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
        }))

      it.effect("takes deliveries and outcomes in one write", () =>
        Effect.gen(function*() {
          const { row, store, write } = yield* setUp
          const [earlier, later] = [newDelivery(), newDelivery()]
          yield* write(earlier)
          yield* store.write({
            deliveries: [later],
            settlements: [{ id: earlier.id, key: keyOf("a"), attempt: attemptOf(1), become: "delivered" }]
          })
          assert.strictEqual(stateOf(yield* row(earlier.id, "a")), "delivered")
          assert.isTrue((yield* row(later.id, "a")).underWay)
        }))

      it.effect("does not send to all again what GitHub sent again while the last outcome was on its way", () =>
        Effect.gen(function*() {
          const { row, store, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          const [recorded] = yield* store.write({
            deliveries: [again(delivery, { to: "a" })],
            settlements: [{ id: delivery.id, key: keyOf("a"), attempt: attemptOf(1), become: "delivered" }]
          })
          assert.deepStrictEqual(recorded, { id: delivery.id, isRedelivery: true, owned: [] })
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
        }))

      it.effect("takes several outcomes of one row in their order", () =>
        Effect.gen(function*() {
          const { row, settleAll, view, write } = yield* setUp
          const [done, waiting] = [newDelivery(), newDelivery()]
          yield* write(done, waiting)
          yield* settleAll(
            outcomeOf(done.id, 1, { retryIn: 1_000 }),
            outcomeOf(waiting.id, 1, { retryIn: 1_000 }),
            outcomeOf(done.id, 2, "delivered"),
            outcomeOf(waiting.id, 2, { retryIn: 9_000 }),
            outcomeOf(done.id, 3, { retryIn: 2_000 })
          )
          assert.strictEqual(stateOf(yield* row(done.id, "a")), "delivered")
          assert.deepStrictEqual((yield* view(done.id)).attempts.map(({ at }) => at), [1, 2, 3])
          assert.deepInclude(yield* row(waiting.id, "a"), { state: "pending", tries: 2 })
        }))

      it.effect("changes nothing about an end when an outcome is said again, or after it", () =>
        Effect.gen(function*() {
          const { isDue, row, settle, view, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered", attemptOf(1))
          yield* settle(delivery.id, "b", "dead", attemptOf(1))
          for (const become of ["dead", { retryIn: 0 }] as const) {
            yield* settle(delivery.id, "a", become, attemptOf(2))
            yield* settle(delivery.id, "b", become, attemptOf(2))
          }
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
          assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "dead")
          assert.isFalse((yield* isDue("a")) || (yield* isDue("b")))
          assert.strictEqual((yield* view(delivery.id)).attempts.length, 6)
        }))

      it.effect.each(["dead", "cancelled"] as const)("believes a late success of a row that is %s", (state) =>
        Effect.gen(function*() {
          const { row, settle, store, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          for (const name of ["a", "b"]) {
            yield* state === "dead" ? settle(delivery.id, name, "dead") : store.cancel(keyOf(name))
            assert.strictEqual(stateOf(yield* row(delivery.id, name)), state)
          }
          yield* settle(delivery.id, "a", { retryIn: 0 }, attemptOf(1))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), state)
          yield* settle(delivery.id, "a", "delivered", attemptOf(2, { outcome: "delivered" }))
          yield* settle(delivery.id, "b", "rejected", attemptOf(2, { outcome: "rejected" }))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
          assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "rejected")
        }))

      it.effect("takes the outcome of an owner whose lease is over, if nobody took the row", () =>
        Effect.gen(function*() {
          const { elapse, isDue, row, settle, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* elapse(leaseMillis + 1)
          yield* settle(delivery.id, "a", { retryIn: 60_000 }, attemptOf(1))
          assert.isFalse(yield* isDue("a"))
          assert.strictEqual((yield* row(delivery.id, "a")).tries, 1)
        }))
    })

    describe("cancelling", () => {
      it.effect("ends a backend's pending rows, whatever they wait for, and no others", () =>
        Effect.gen(function*() {
          const { elapse, isDue, row, settle, store, write } = yield* setUp
          const [underWay, waiting, held, done] = [
            newDelivery({ to: "ab" }),
            newDelivery(),
            newDelivery({ heldFor: "a" }),
            newDelivery()
          ] as const
          yield* write(underWay, waiting, held, done)
          yield* settle(waiting.id, "a", { retryIn: 60_000 })
          yield* settle(done.id, "a", "delivered")
          assert.strictEqual(yield* store.cancel(keyOf("a")), 3)
          for (const { id } of [underWay, waiting, held]) {
            assert.strictEqual(stateOf(yield* row(id, "a")), "cancelled")
          }
          assert.strictEqual(stateOf(yield* row(done.id, "a")), "delivered")
          assert.isTrue((yield* row(underWay.id, "b")).underWay)
          yield* elapse(hours(1))
          assert.isFalse(yield* isDue("a"))
          assert.strictEqual(yield* store.cancel(keyOf("a")), 0)
        }))
    })

    describe("counting", () => {
      it.effect("tells what each backend still has to get, since when, and what it never got", () =>
        Effect.gen(function*() {
          const { elapse, now, settle, store, write } = yield* setUp
          const oldest = yield* now
          const [first, second, third] = [
            newDelivery({ to: "abc" }),
            newDelivery({ to: "ab" }),
            newDelivery({ to: "a" })
          ]
          yield* write(first)
          yield* elapse(1_000)
          yield* write(second, third)
          yield* settle(first.id, "b", "dead")
          yield* settle(first.id, "c", "dead")
          yield* settle(second.id, "a", { retryIn: 5_000 })
          yield* settle(third.id, "a", "delivered")
          const backlogs = (yield* store.backlogs).toSorted((a, b) =>
            a.key < b.key ? -1 : 1
          )
          assert.deepStrictEqual(backlogs, [
            { key: keyOf("a"), pending: 2, dead: 0, oldestSince: oldest },
            { key: keyOf("b"), pending: 1, dead: 1, oldestSince: oldest + 1_000 },
            { key: keyOf("c"), pending: 0, dead: 1, oldestSince: undefined }
          ])
        }))

      it.effect("counts bodies towards what it takes up, until they are gone", () =>
        Effect.gen(function*() {
          const { elapse, prune, settle, store, write } = yield* setUp
          const before = yield* store.usage
          const deliveries = [1, 2, 3, 4].map(() =>
            newDelivery({ body: randomBytes(500_000) })
          )
          yield* write(...deliveries)
          assert.isAtLeast(yield* store.usage, before + 1_990_000)
          for (const { id } of deliveries) yield* settle(id, "a", "delivered")
          yield* elapse(hours(2))
          yield* prune({ delivered: hours(1) })
          assert.isBelow(yield* store.usage, before + 500_000)
        }))
    })

    describe("pruning", () => {
      it.effect("takes headers and body some time after the last row was settled, and leaves the rest", () =>
        Effect.gen(function*() {
          const { elapse, listed, prune, row, settle, store, view, write } = yield* setUp
          const delivery = newDelivery({ to: "abc" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          yield* elapse(hours(30))
          yield* settle(delivery.id, "b", "rejected")
          yield* store.cancel(keyOf("c"))
          yield* elapse(hours(24) - 1_000)
          yield* prune({ delivered: hours(24) })
          assert.isDefined(yield* store.load(delivery.id))
          assert.isTrue((yield* view(delivery.id)).hasBody)
          yield* elapse(2_000)
          yield* prune({ delivered: hours(24) })
          assert.isUndefined(yield* store.load(delivery.id))
          assert.isFalse((yield* view(delivery.id)).hasBody)
          assert.strictEqual((yield* view(delivery.id)).bodyLength, delivery.body.length)
          assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "rejected")
          assert.deepStrictEqual(yield* listed({}), [delivery.id])
        }))

      it.effect("takes no body that is needed still", () =>
        Effect.gen(function*() {
          const { elapse, prune, settle, store, write } = yield* setUp
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          yield* settle(delivery.id, "b", { retryIn: hours(1) })
          yield* elapse(hours(1_000))
          yield* prune({ delivered: hours(24), dead: hours(48) })
          assert.isDefined(yield* store.load(delivery.id))
        }))

      it.effect("keeps a delivery with a dead row whole for longer, and then nothing of it", () =>
        Effect.gen(function*() {
          const { elapse, prune, settle, store, write } = yield* setUp
          const retention = { delivered: hours(24), dead: hours(168) }
          const [dead, delivered] = [newDelivery({ to: "ab" }), newDelivery({ to: "ab" })]
          yield* write(dead, delivered)
          yield* settle(dead.id, "a", "dead", attemptOf(1))
          for (const [id, name] of [[dead.id, "b"], [delivered.id, "a"], [delivered.id, "b"]] as const) {
            yield* settle(id, name, "delivered", attemptOf(2))
          }
          yield* elapse(hours(168) - 1_000)
          yield* prune(retention)
          assert.isDefined(yield* store.load(dead.id))
          assert.isUndefined(yield* store.load(delivered.id))
          assert.strictEqual((yield* store.show(delivered.id)).length, 1)
          yield* elapse(2_000)
          yield* prune(retention)
          assert.deepStrictEqual([yield* store.show(dead.id), yield* store.show(delivered.id)], [[], []])
          assert.isUndefined(yield* store.load(dead.id))
          assert.deepStrictEqual(yield* store.backlogs, [])
        }))

      it.effect("forgets with a delivery what made it a redelivery", () =>
        Effect.gen(function*() {
          const { elapse, prune, settle, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* settle(delivery.id, "a", "delivered")
          yield* elapse(hours(200))
          yield* prune({ delivered: hours(24), dead: hours(168) })
          const [recorded] = yield* write(again(delivery, { to: "a" }))
          assert.isFalse(recorded?.isRedelivery)
        }))

      it.effect("gives up as dead what is pending for too long", () =>
        Effect.gen(function*() {
          const { elapse, isDue, now, prune, row, settle, write } = yield* setUp
          const [old, recent] = [newDelivery({ to: "ab" }), newDelivery()]
          yield* write(old)
          yield* settle(old.id, "a", { retryIn: 1_000 }, attemptOf(1))
          yield* settle(old.id, "b", "delivered")
          yield* elapse(hours(71))
          yield* write(recent)
          yield* settle(recent.id, "a", { retryIn: hours(1) })
          yield* elapse(hours(1) - 1_000)
          yield* prune({ maxAge: hours(72) })
          assert.strictEqual(stateOf(yield* row(old.id, "a")), "pending")
          yield* elapse(2_000)
          yield* prune({ maxAge: hours(72) })
          assert.deepInclude(yield* row(old.id, "a"), { state: "dead", settledAt: yield* now, tries: 1 })
          assert.strictEqual(stateOf(yield* row(old.id, "b")), "delivered")
          assert.strictEqual(stateOf(yield* row(recent.id, "a")), "pending")
          assert.isTrue(yield* isDue("a"))
        }))

      it.effect("counts the age of what was asked for again from then on", () =>
        Effect.gen(function*() {
          const { elapse, prune, row, settle, store, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* settle(delivery.id, "a", "dead")
          yield* elapse(hours(80))
          yield* store.redeliver({ id: delivery.id }, 10)
          yield* elapse(hours(71))
          yield* prune({ maxAge: hours(72) })
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
          yield* elapse(hours(2))
          yield* prune({ maxAge: hours(72) })
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "dead")
        }))

      it.effect("does a bounded part at a time, and all in the end", () =>
        Effect.gen(function*() {
          const { elapse, prune, settleAll, store, write } = yield* setUp
          const deliveries = Array.from({ length: 25 }, () => newDelivery())
          yield* write(...deliveries)
          yield* settleAll(...deliveries.map(({ id }): Settlement => ({
            id,
            key: keyOf("a"),
            attempt: undefined,
            become: "delivered"
          })))
          yield* prune({})
          yield* elapse(hours(25))
          assert.isTrue(yield* store.prune({ ...keep, delivered: hours(24) }, 10))
          const left = yield* Effect.filter(
            deliveries,
            ({ id }) => Effect.map(store.load(id), (one) => one !== undefined)
          )
          assert.isAtLeast(left.length, 15)
          yield* prune({ delivered: hours(24) }, 10)
          for (const { id } of deliveries) assert.isUndefined(yield* store.load(id))
        }))

      it.effect("mends what is due too far ahead, since the clock was set back", () =>
        Effect.gen(function*() {
          const database = yield* (yield* Databases).create
          const [underWay, waiting] = [newDelivery({ to: "a" }), newDelivery({ to: "b" })]
          yield* Effect.scoped(Effect.gen(function*() {
            const store = yield* database.open("one")
            yield* store.write({ deliveries: [underWay, waiting], settlements: [] })
            const become = { retryIn: longestDelay }
            yield* store.write({
              deliveries: [],
              settlements: [{ id: waiting.id, key: keyOf("b"), attempt: undefined, become }]
            })
          }))
          yield* database.setBack(hours(50))
          const store = yield* database.open("two")
          yield* store.prune(keep, 100)
          yield* database.elapse(longestDelay + leaseMillis)
          assert.sameMembers([...yield* store.due(keysOf("ab"))], keysOf("ab"))
        }))

      it.effect("leaves due times alone that may be right", () =>
        Effect.gen(function*() {
          const { prune, row, settle, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* settle(delivery.id, "a", { retryIn: longestDelay })
          const { dueAt } = yield* row(delivery.id, "a")
          yield* prune({})
          assert.strictEqual((yield* row(delivery.id, "a")).dueAt, dueAt)
        }))
    })

    describe("listing", () => {
      it.effect("shows the newest first, with all rows", () =>
        Effect.gen(function*() {
          const { now, store, write } = yield* setUp
          const [first, second] = [newDelivery({ to: "a" }), newDelivery({ to: "b", heldFor: "c", hookId: "77" })]
          yield* write(first)
          yield* write(second)
          const at = yield* now
          const { deliveries, next } = yield* store.list({}, { limit: 10 })
          assert.isUndefined(next)
          assert.deepStrictEqual(deliveries.map(({ id }) => id), [second.id, first.id])
          const { rows, ...view } = deliveries[0]!
          assert.deepStrictEqual(view, {
            id: second.id,
            requestId: second.requestId,
            hookId: "77",
            guid: second.guid,
            event: "push",
            receivedAt: at,
            bodyLength: second.body.length,
            hasBody: true
          })
          const row = { state: "pending", since: at, tries: 0, lastOutcome: undefined, settledAt: undefined } as const
          assert.deepStrictEqual(rows.toSorted((a, b) => a.key < b.key ? -1 : 1), [
            { ...row, key: keyOf("b"), url: `${keyOf("b")}/`, dueAt: at + leaseMillis, underWay: true },
            { ...row, key: keyOf("c"), url: `${keyOf("c")}/`, dueAt: at, underWay: false }
          ])
        }))

      it.effect("filters by what one row is, and by what the delivery is", () =>
        Effect.gen(function*() {
          const { elapse, listed, now, settle, write } = yield* setUp
          const first = newDelivery({ to: "ab", event: "push", guid: "one" })
          const second = newDelivery({ to: "ab", event: "pull_request", guid: "two" })
          const third = newDelivery({ to: "b", event: undefined, guid: undefined })
          yield* write(first)
          yield* elapse(1_000)
          const since = yield* now
          yield* write(second)
          yield* elapse(1_000)
          yield* write(third)
          yield* settle(first.id, "a", "dead")
          yield* settle(first.id, "b", "delivered")
          yield* settle(second.id, "b", "dead")
          const cases: ReadonlyArray<readonly [DeliveryFilter, ReadonlyArray<NewDelivery>]> = [
            [{}, [third, second, first]],
            [{ state: "dead" }, [second, first]],
            [{ state: "delivered" }, [first]],
            [{ state: "rejected" }, []],
            [{ backend: keyOf("a") }, [second, first]],
            [{ state: "dead", backend: keyOf("a") }, [first]],
            [{ state: "delivered", backend: keyOf("a") }, []],
            [{ state: "pending", backend: keyOf("b") }, [third]],
            [{ event: "pull_request" }, [second]],
            [{ guid: "one" }, [first]],
            [{ guid: "" }, []],
            [{ since }, [third, second]],
            [{ since: since + 1 }, [third]],
            [{ since, state: "dead", event: "pull_request", guid: "two", backend: keyOf("b") }, [second]],
            [{ since, state: "dead", event: "push" }, []]
          ]
          for (const [filter, expected] of cases) {
            assert.deepStrictEqual(yield* listed(filter), expected.map(({ id }) => id), JSON.stringify(filter))
          }
        }))

      it.effect("pages without gaps and repeats, while deliveries come", () =>
        Effect.gen(function*() {
          const { settleAll, store, write } = yield* setUp
          const deliveries = Array.from({ length: 20 }, () => newDelivery())
          yield* write(...deliveries)
          yield* settleAll(
            ...deliveries.filter((_, at) => at % 2 === 0).map(({ id }): Settlement => ({
              id,
              key: keyOf("a"),
              attempt: undefined,
              become: "dead"
            }))
          )
          const pages = Effect.fnUntraced(function*(filter: DeliveryFilter, limit: number) {
            const ids: Array<string> = []
            const lengths: Array<number> = []
            let after: string | undefined
            do {
              const page = yield* store.list(filter, { limit, after })
              ids.push(...page.deliveries.map(({ id }) => id))
              lengths.push(page.deliveries.length)
              after = page.next
              yield* write(newDelivery({ to: "z", event: "later" }))
            } while (after !== undefined)
            return { ids, lengths }
          })
          const expected = deliveries.map(({ id }) => id).toReversed()
          const all = yield* pages({ backend: keyOf("a") }, 8)
          assert.deepStrictEqual(all, { ids: expected, lengths: [8, 8, 4] })
          // The last page is known to be it even when it is full.
          const dead = yield* pages({ state: "dead", event: "push" }, 5)
          assert.deepStrictEqual(dead, { ids: expected.filter((_, at) => at % 2 === 1), lengths: [5, 5] })
        }))

      it.effect("shows all deliveries of a GUID, and one by its id, each with its attempts", () =>
        Effect.gen(function*() {
          const { settle, store, write } = yield* setUp
          const [one, other] = [
            newDelivery({ guid: "shared", hookId: "1", to: "ab" }),
            newDelivery({ guid: "shared", hookId: "2" })
          ]
          yield* write(one, other)
          yield* settle(one.id, "a", { retryIn: 0 }, attemptOf(1))
          yield* settle(one.id, "b", "delivered", attemptOf(2, { outcome: "delivered" }))
          const shown = yield* store.show("shared")
          assert.deepStrictEqual(shown.map(({ id }) => id), [other.id, one.id])
          assert.deepStrictEqual(shown.map(({ attempts }) => attempts.map(({ at, key }) => [at, key])), [
            [],
            [[1, keyOf("a")], [2, keyOf("b")]]
          ])
          assert.deepStrictEqual((yield* store.show(one.id)).map(({ id }) => id), [one.id])
        }))
    })

    describe("asking for rows again", () => {
      it.effect("makes them pending and due, as if just received", () =>
        Effect.gen(function*() {
          const { elapse, isDue, now, row, settle, store, write } = yield* setUp
          const delivery = newDelivery({ to: "abcd" })
          yield* write(delivery)
          yield* settle(delivery.id, "a", "dead", attemptOf(1))
          yield* settle(delivery.id, "b", "delivered", attemptOf(1))
          yield* settle(delivery.id, "c", "rejected", attemptOf(1))
          yield* store.cancel(keyOf("d"))
          yield* elapse(hours(90))
          assert.deepStrictEqual(yield* store.redeliver({ id: delivery.id }, 10), { redelivered: 4, remaining: 0 })
          for (const name of "abcd") {
            assert.deepInclude(yield* row(delivery.id, name), {
              state: "pending",
              since: yield* now,
              dueAt: yield* now,
              underWay: false,
              settledAt: undefined
            })
            assert.isTrue(yield* isDue(name))
          }
        }))

      it.effect("makes due at once what waits for its retry", () =>
        Effect.gen(function*() {
          const { claim, settle, store, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* settle(delivery.id, "a", { retryIn: 300_000 })
          yield* store.redeliver({ guid: delivery.guid }, 10)
          assert.deepStrictEqual(yield* claim("a"), [delivery.id])
        }))

      it.effect("starts no second attempt beside one that is under way", () =>
        Effect.gen(function*() {
          const { isDue, row, store, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          yield* store.redeliver({ id: delivery.id }, 10)
          assert.isFalse(yield* isDue("a"))
          assert.isTrue((yield* row(delivery.id, "a")).underWay)
        }))

      it.effect("asks for what the filter matches, and says how much is beyond the limit", () =>
        Effect.gen(function*() {
          const { row, settle, store, write } = yield* setUp
          const deliveries = Array.from({ length: 5 }, () => newDelivery({ to: "ab" }))
          const other = newDelivery({ to: "a", event: "other" })
          yield* write(...deliveries, other)
          for (const { id } of deliveries) {
            yield* settle(id, "a", "dead")
            yield* settle(id, "b", "delivered")
          }
          yield* settle(other.id, "a", "dead")
          const filter = { state: "dead", backend: keyOf("a"), event: "push" } as const
          assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 2, remaining: 3 })
          assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 2, remaining: 1 })
          assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 1, remaining: 0 })
          assert.deepStrictEqual(yield* store.redeliver(filter, 2), { redelivered: 0, remaining: 0 })
          assert.strictEqual((yield* store.claim(keyOf("a"), 100, "oldest")).length, 5)
          assert.strictEqual(stateOf(yield* row(other.id, "a")), "dead")
          assert.strictEqual(stateOf(yield* row(deliveries[0]!.id, "b")), "delivered")
        }))

      it.effect("leaves alone what has no body any more", () =>
        Effect.gen(function*() {
          const { elapse, prune, row, settle, store, write } = yield* setUp
          const [gone, there] = [newDelivery(), newDelivery()]
          yield* write(gone, there)
          yield* settle(gone.id, "a", "delivered")
          yield* elapse(hours(2))
          yield* settle(there.id, "a", "delivered")
          yield* prune({ delivered: hours(1) })
          assert.deepStrictEqual(yield* store.redeliver({ backend: keyOf("a") }, 10), { redelivered: 1, remaining: 0 })
          assert.strictEqual(stateOf(yield* row(gone.id, "a")), "delivered")
          assert.strictEqual(stateOf(yield* row(there.id, "a")), "pending")
        }))
    })

    describe("dynamic backends", () => {
      it.effect("are added, changed and counted", () =>
        Effect.gen(function*() {
          const { elapse, now, store } = yield* setUp
          const put = (name: string, ttl: number | undefined, limit: number, url = keyOf(name)) =>
            store.putBackend({ key: keyOf(name), url, ttl }, limit)
          const registeredAt = yield* now
          assert.strictEqual(yield* put("a", 60_000, 2), "added")
          assert.strictEqual(yield* put("b", undefined, 2), "added")
          assert.strictEqual(yield* put("c", undefined, 2), "limit")
          yield* elapse(1_000)
          assert.strictEqual(yield* put("a", 60_000, 2, "http://other/"), "renewed")
          assert.strictEqual(yield* put("b", 5_000, 1), "renewed")
          const backends = (yield* store.backends).toSorted((a, b) => a.key < b.key ? -1 : 1)
          assert.deepStrictEqual(backends, [
            { key: keyOf("a"), url: "http://other/", registeredAt, expiresAt: registeredAt + 61_000 },
            { key: keyOf("b"), url: keyOf("b"), registeredAt, expiresAt: registeredAt + 6_000 }
          ])
          yield* put("b", undefined, 2)
          assert.isUndefined((yield* store.backends).find(({ key }) => key === keyOf("b"))?.expiresAt)
        }))

      it.effect("are never more than the limit, however many come at once", () =>
        Effect.gen(function*() {
          const { store } = yield* setUp
          const answers = yield* Effect.forEach(
            [..."abcdefghijkl"],
            (name) => store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined }, 5),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(answers.filter((answer) => answer === "added").length, 5)
          assert.strictEqual((yield* store.backends).length, 5)
        }))

      it.effect("take their pending rows with them", () =>
        Effect.gen(function*() {
          const { row, settle, store, write } = yield* setUp
          for (const name of "ab") yield* store.putBackend({ key: keyOf(name), url: keyOf(name), ttl: undefined }, 10)
          const [pending, done] = [newDelivery({ to: "ab" }), newDelivery()]
          yield* write(pending, done)
          yield* settle(done.id, "a", "delivered")
          assert.isTrue(yield* store.deleteBackend(keyOf("a")))
          assert.isFalse(yield* store.deleteBackend(keyOf("a")))
          assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("b"))
          assert.strictEqual(stateOf(yield* row(pending.id, "a")), "cancelled")
          assert.strictEqual(stateOf(yield* row(pending.id, "b")), "pending")
          assert.strictEqual(stateOf(yield* row(done.id, "a")), "delivered")
        }))

      it.effect("take all their pending rows with them, however many", () =>
        Effect.gen(function*() {
          const { isDue, listed, store, write } = yield* setUp
          yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: undefined }, 10)
          const deliveries = Array.from({ length: 2_500 }, () => newDelivery({ heldFor: "a" }))
          for (let at = 0; at < deliveries.length; at += 250) yield* write(...deliveries.slice(at, at + 250))
          assert.isTrue(yield* store.deleteBackend(keyOf("a")))
          assert.isFalse(yield* isDue("a"))
          assert.deepStrictEqual(yield* listed({ state: "pending" }), [])
          assert.deepStrictEqual(yield* store.backlogs, [])
        }))

      it.effect("keep the rows of a backend that is not theirs", () =>
        Effect.gen(function*() {
          const { row, store, write } = yield* setUp
          const delivery = newDelivery()
          yield* write(delivery)
          assert.isFalse(yield* store.deleteBackend(keyOf("a")))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "pending")
        }))

      it.effect("go when their time is over", () =>
        Effect.gen(function*() {
          const { elapse, row, store, write } = yield* setUp
          for (const [name, ttl] of [["a", 1_000], ["b", 2_000], ["c", undefined]] as const) {
            yield* store.putBackend({ key: keyOf(name), url: keyOf(name), ttl }, 10)
          }
          const delivery = newDelivery({ to: "ab" })
          yield* write(delivery)
          yield* elapse(999)
          assert.deepStrictEqual(yield* store.expireBackends, [])
          yield* elapse(2)
          assert.deepStrictEqual(yield* store.expireBackends, keysOf("a"))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "cancelled")
          assert.strictEqual(stateOf(yield* row(delivery.id, "b")), "pending")
          yield* elapse(hours(1_000))
          assert.deepStrictEqual(yield* store.expireBackends, keysOf("b"))
          assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("c"))
        }))
    })

    describe.skipIf(!replicas)("shared by two replicas", () => {
      const twoReplicas = Effect.gen(function*() {
        const one = yield* setUp
        return { ...one, other: yield* one.database.open("other") }
      })

      it.effect("hands each of 500 rows to one of them, once", () =>
        Effect.gen(function*() {
          const { other, store, write } = yield* twoReplicas
          const deliveries = Array.from({ length: 500 }, () => newDelivery({ heldFor: "a" }))
          yield* write(...deliveries)
          const claimAll = Effect.fnUntraced(function*(replica: Store) {
            const ids: Array<string> = []
            for (let misses = 0; misses < 3;) {
              const claimed = yield* replica.claim(keyOf("a"), 7, ids.length % 2 === 0 ? "oldest" : "newest")
              ids.push(...claimed.map(({ id }) => id))
              misses = claimed.length === 0 ? misses + 1 : 0
              yield* Effect.yieldNow
            }
            return ids
          })
          const claimed = yield* Effect.forEach([store, other, store, other], claimAll, { concurrency: 4 })
          assert.deepStrictEqual(sorted(claimed.flat()), sorted(deliveries.map(({ id }) => id)))
          assert.isTrue(claimed.every((ids) => ids.length > 0))
        }))

      it.effect("passes on what one has begun and not settled when its lease is over", () =>
        Effect.gen(function*() {
          const { elapse, now, other, row, settle, store, write } = yield* twoReplicas
          const delivery = newDelivery()
          yield* write(delivery)
          const since = yield* now
          assert.deepStrictEqual(yield* other.claim(keyOf("a"), 10, "oldest"), [])
          yield* elapse(leaseMillis)
          const [claimed] = yield* other.claim(keyOf("a"), 10, "oldest")
          assert.deepInclude(claimed, { id: delivery.id, tries: 0, since })
          assert.deepStrictEqual(yield* store.claim(keyOf("a"), 10, "oldest"), [])
          // The first owner was slow, not dead: only what can't be undone counts.
          yield* settle(delivery.id, "a", { retryIn: 0 }, attemptOf(1))
          yield* settle(delivery.id, "a", "dead", attemptOf(2))
          assert.deepInclude(yield* row(delivery.id, "a"), { state: "pending", underWay: true })
          yield* settle(delivery.id, "a", "delivered", attemptOf(3, { outcome: "delivered" }))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
          yield* other.write({
            deliveries: [],
            settlements: [{ id: delivery.id, key: keyOf("a"), attempt: attemptOf(4), become: { retryIn: 0 } }]
          })
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "delivered")
          const [shown] = yield* other.show(delivery.id)
          assert.deepStrictEqual(shown?.attempts.map(({ at }) => at), [1, 2, 3, 4])
        }))

      it.effect("gives back for each its own", () =>
        Effect.gen(function*() {
          const { isDue, other, store, write } = yield* twoReplicas
          yield* write(newDelivery({ to: "a" }))
          yield* other.write({ deliveries: [newDelivery({ to: "b" })], settlements: [] })
          yield* other.release
          assert.deepStrictEqual([yield* isDue("a"), yield* isDue("b")], [false, true])
          yield* store.release
          assert.isTrue(yield* isDue("a"))
        }))

      it.effect("recognises a delivery that GitHub sent to both", () =>
        Effect.gen(function*() {
          const { listed, other, store } = yield* twoReplicas
          const pairs = Array.from({ length: 20 }, () => {
            const delivery = newDelivery({ to: "ab" })
            return [delivery, again(delivery, { to: "ab" })] as const
          })
          const recorded = yield* Effect.forEach(pairs, ([first, second]) =>
            Effect.all([
              store.write({ deliveries: [first], settlements: [] }),
              other.write({ deliveries: [second], settlements: [] })
            ], { concurrency: 2 }), { concurrency: 4 })
          for (const [[one], [two]] of recorded) {
            assert.strictEqual(one!.id, two!.id)
            assert.notStrictEqual(one!.isRedelivery, two!.isRedelivery)
            assert.deepStrictEqual(sorted([...one!.owned, ...two!.owned]), keysOf("ab"))
          }
          assert.strictEqual((yield* listed({})).length, pairs.length)
        }))

      it.effect("takes crossing writes of the same deliveries in different order", () =>
        Effect.gen(function*() {
          const { listed, other, store } = yield* twoReplicas
          const deliveries = Array.from({ length: 30 }, () => newDelivery({ to: "ab" }))
          const copies = deliveries.map((delivery) => again(delivery, { to: "ab" })).toReversed()
          const recorded = yield* Effect.all([
            store.write({ deliveries, settlements: [] }),
            other.write({ deliveries: copies, settlements: [] })
          ], { concurrency: 2 })
          const owned = Map.groupBy(recorded.flat(), ({ id }) => id)
          assert.strictEqual(owned.size, deliveries.length)
          for (const [id, both] of owned) {
            assert.deepStrictEqual(sorted(both.flatMap((one) => one.owned)), keysOf("ab"), id)
          }
          assert.strictEqual((yield* listed({})).length, deliveries.length)
        }))

      it.effect("shows each what the other wrote, registered and cancelled", () =>
        Effect.gen(function*() {
          const { other, row, store, write } = yield* twoReplicas
          const delivery = newDelivery()
          yield* write(delivery)
          assert.deepStrictEqual((yield* other.load(delivery.id))?.body, delivery.body)
          assert.strictEqual(yield* other.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: 60_000 }, 1), "added")
          assert.strictEqual(yield* store.putBackend({ key: keyOf("a"), url: keyOf("a"), ttl: 60_000 }, 1), "renewed")
          assert.strictEqual(yield* store.putBackend({ key: keyOf("b"), url: keyOf("b"), ttl: 60_000 }, 1), "limit")
          assert.deepStrictEqual((yield* store.backends).map(({ key }) => key), keysOf("a"))
          assert.isTrue(yield* other.deleteBackend(keyOf("a")))
          assert.strictEqual(stateOf(yield* row(delivery.id, "a")), "cancelled")
        }))

      it.effect("works while both write, claim, settle and prune", () =>
        Effect.gen(function*() {
          const { elapse, other, prune, store } = yield* twoReplicas
          const work = Effect.fnUntraced(function*(replica: Store, round: number) {
            const delivery = newDelivery({
              to: "a",
              heldFor: "b",
              guid: `shared-${round % 10}`,
              body: Buffer.from("same")
            })
            const [recorded] = yield* replica.write({ deliveries: [delivery], settlements: [] })
            const claimed = yield* replica.claim(keyOf("b"), 3, round % 2 === 0 ? "oldest" : "newest")
            const settlements = [...recorded!.owned.map((key) => ({ id: recorded!.id, key })), ...claimed].map(
              ({ id, key }): Settlement => ({ id, key, attempt: attemptOf(round), become: "delivered" })
            )
            yield* replica.write({ deliveries: [], settlements: settlements.toReversed() })
            yield* replica.prune(keep, 10)
          })
          yield* Effect.forEach(
            Array.from({ length: 120 }, (_, round) => round),
            (round) => work(round % 2 === 0 ? store : other, round),
            { concurrency: 12 }
          )
          yield* store.release
          yield* other.release
          const { deliveries } = yield* store.list({}, { limit: 100 })
          assert.strictEqual(deliveries.length, 10)
          for (const { rows } of deliveries) {
            assert.deepStrictEqual(sorted(rows.map(({ key }) => key)), keysOf("ab"))
            assert.isTrue(rows.every(({ state }) => state === "pending" || state === "delivered"))
          }
          // In the end nothing is stuck.
          for (const name of ["a", "b"]) {
            const left = yield* store.claim(keyOf(name), 100, "oldest")
            yield* store.write({
              deliveries: [],
              settlements: left.map(({ id, key }) => ({ id, key, attempt: undefined, become: "delivered" }))
            })
          }
          assert.deepStrictEqual((yield* store.backlogs).filter(({ pending }) => pending > 0), [])
          yield* elapse(hours(200))
          yield* prune({ delivered: hours(24), dead: hours(168) })
          assert.deepStrictEqual((yield* store.list({}, { limit: 100 })).deliveries, [])
        }))
    })
  })
