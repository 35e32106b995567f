/** The contract of writing: what is written, and what the write returns. */
import { assert, describe } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import { leaseMillis } from "../../../src/store/contract/Row.ts"
import { attemptOf, Databases, keyOf, newDelivery, newId } from "../../support/StoreDatabases.ts"
import { again, assertDefined, type ContractIt, keysOf, setUp, sorted } from "./Subject.ts"

export const tests = (it: ContractIt) => {
  describe("writing", () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at))
    const bodies: ReadonlyArray<readonly [string, Buffer]> = [
      ["no bytes", Buffer.alloc(0)],
      ["each byte there is", bytes],
      ["bytes that are no text", Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0, 0])],
      ["a mebibyte", randomBytes(1024 * 1024)],
      ["as large as a body may be", randomBytes(25 * 1024 * 1024)]
    ]
    it.effect.each(bodies)("keeps a body byte for byte: %s", ([, body]) =>
      Effect.gen(function*() {
        const { store, write } = yield* setUp
        const delivery = newDelivery({ body })
        yield* write(delivery)
        const loaded = assertDefined(yield* store.load(delivery.id), "the delivery")
        assert.strictEqual(Buffer.compare(loaded.body, body), 0)
      }))

    it.effect("keeps large bodies that are written at once, with small ones and with those that are known", () =>
      Effect.gen(function*() {
        const { store, write } = yield* setUp
        const [known, small, large, larger] = [3e6, 10, 2.5e6, 4e6].map((size) =>
          newDelivery({ body: randomBytes(size) })
        )
        yield* write(known!)
        for (const batch of [[known!, small!, large!], [larger!, large!]]) {
          yield* store.write({ deliveries: batch, settlements: [] })
          for (const { body, id } of batch) {
            const loaded = assertDefined(yield* store.load(id), "the delivery")
            assert.strictEqual(Buffer.compare(loaded.body, Buffer.concat(body)), 0)
          }
        }
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
        const body = Buffer.concat(received.body)
        assert.deepStrictEqual(yield* store.load(delivery.id), { ...received, body, receivedAt: yield* now })
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

    /** UTF-16 code units: of one byte to four in UTF-8, NUL, both halves of a pair, what has a meaning to a database. */
    const unit = Schema.Literals(
      [0, 1, 0x09, 0x20, 0x22, 0x27, 0x30, 0x41, 0x5c, 0x75, 0x7f, 0x85, 0xa0, 0xe9, 0xff, 0x17f, 0x20ac, 0x5b57]
        .concat([0xd83d, 0xdd11, 0xd800, 0xdfff, 0xfeff, 0xfffd, 0xffff])
    )
    const times = Schema.Literals([1, 1, 40, 2_000])
    const text = Arbitrary.map(
      Arbitrary.all([Arbitrary.array(Arbitrary.schema(unit), { maxLength: 12 }), Arbitrary.schema(times)]),
      ([units, count]) => String.fromCharCode(...units).repeat(count)
    )
    it.effect("takes whatever text comes from outside, and headers come back byte for byte", () =>
      Effect.gen(function*() {
        const { row, settle, store, view, write } = yield* setUp
        const texts = Arbitrary.all({
          names: Arbitrary.all([text, text, text, text]),
          headers: Arbitrary.array(text),
          texts: Arbitrary.all([text, text])
        })
        const result = yield* Arbitrary.checkEffect(
          texts,
          Effect.fnUntraced(function*({ headers, names: [guid, event, hookId, target], texts: [answer, error] }) {
            const latin = headers.map((header) => Buffer.from(header, "latin1").toString("latin1"))
            const delivery = newDelivery({ guid, event, hookId, target, headers: latin })
            const written = yield* write(delivery)
            assert.deepStrictEqual(written, [{ id: delivery.id, isRedelivery: false, owned: keysOf("a") }])
            const loaded = assertDefined(yield* store.load(delivery.id), "the delivery")
            assert.deepStrictEqual(loaded.headers, latin)
            assert.strictEqual(kept(loaded.target), kept(target))
            for (const name of ["guid", "event", "hookId"] as const) {
              assert.strictEqual(kept(loaded[name], 200), kept(delivery[name], 200), name)
            }
            const redelivery = again(delivery, { to: "a" })
            assert.deepInclude((yield* write(redelivery))[0], { id: delivery.id, isRedelivery: true, owned: [] })
            yield* settle(delivery.id, "a", { retryIn: 0 }, attemptOf(1, { answer, error }))
            const [attempt] = (yield* view(delivery.id)).attempts
            assert.deepStrictEqual([attempt?.answer, attempt?.error].map((one) => kept(one)), [
              kept(answer),
              kept(error)
            ])
            assert.strictEqual((yield* row(delivery.id, "a")).tries, 1)
            return true
          }),
          { runs: 30 }
        )
        assert.isUndefined(Arbitrary.formatCheckFailure(result))
      }))

    it.effect("takes names of any length, of which it keeps the beginning", () =>
      Effect.gen(function*() {
        const { store, write } = yield* setUp
        // Random, or a database would compress it and find that it fits into an index.
        const long = randomBytes(8_000).toString("hex")
        const delivery = newDelivery({ guid: long, event: long, hookId: long, target: `/${long}` })
        yield* write(delivery)
        const loaded = assertDefined(yield* store.load(delivery.id), "the delivery")
        assert.strictEqual(loaded.target, delivery.target)
        for (const name of [loaded.guid, loaded.event, loaded.hookId]) assert.isTrue(long.startsWith(name!))
      }))

    it.effect("takes a probe, and shows nothing of it", () =>
      Effect.gen(function*() {
        const { listed, store } = yield* setUp
        yield* Effect.all([store.probe, store.probe, store.probe], { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* listed({}), [])
        assert.deepStrictEqual(yield* store.backlogs, [])
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
        // The process that began the attempts is gone. They are made again at the latest when the lease is over.
        yield* database.elapse(leaseMillis)
        assert.sameMembers([...yield* store.due(keysOf("ab"))], keysOf("ab"))
      }))
  })
}

/** As much of a text as is kept of it. PostgreSQL's client drops a byte order mark that a text begins with. */
const kept = (foreign: string | undefined, length = Infinity) =>
  foreign?.slice(0, length).toWellFormed().replaceAll("\0", "\ufffd").replaceAll("\ufeff", "")
