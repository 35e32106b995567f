import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import { createHash } from "node:crypto"
import type { AttemptReport } from "../../src/domain/AttemptReport.ts"
import { parse } from "../../src/domain/Backend.ts"
import { Body } from "../../src/domain/Body.ts"
import type { Delivery } from "../../src/domain/Delivery.ts"
import { BackendBreakers } from "../../src/durable/BackendBreakers.ts"
import { SettlementPolicy } from "../../src/durable/SettlementPolicy.ts"
import * as StoredLedger from "../../src/durable/StoredLedger.ts"
import { FallbackRecords } from "../../src/durable/fallback/FallbackRecords.ts"
import { DeliveryIds } from "../../src/durable/writing/DeliveryIds.ts"
import type { WriteRequest } from "../../src/durable/writing/DeliveryWrite.ts"
import { StoreWriter } from "../../src/durable/writing/StoreWriter.ts"
import { Ledger, type LedgerEntry } from "../../src/forwarding/Ledger.ts"
import { Timers } from "../../src/runtime/Timers.ts"
import { Settings } from "../../src/settings/Settings.ts"
import type { Recorded } from "../../src/store/contract/Queue.ts"
import type { Settlement } from "../../src/store/contract/Row.ts"

const [a, b, c] = ["http://a.test", "http://b.test", "http://c.test"].map((url) =>
  Result.getOrThrow(parse(url, "static"))
) as [Backend, Backend, Backend]
type Backend = Result.Result.Success<ReturnType<typeof parse>>

const delivery: Delivery = {
  requestId: "request",
  guid: "guid",
  event: "push",
  method: "POST",
  target: "/proxy?x=1",
  forwardedTarget: "/?x=1",
  headers: ["X-GitHub-Delivery", "guid", "X-GitHub-Hook-ID", "4711", "Via", "1.1 sprayproxy-0"],
  body: new Body([Buffer.from("{}")], 2)
}

const report = (outcome: AttemptReport["outcome"]): AttemptReport => ({
  outcome,
  status: undefined,
  error: undefined,
  answer: undefined,
  latency: 1,
  requests: 1
})

const setUpWith = Effect.fnUntraced(function*(given: Partial<Settings["Service"]>) {
  const requests: Array<WriteRequest> = []
  const settlements: Array<Settlement> = []
  const writer = StoreWriter.of({
    write: (request) => void requests.push(request),
    settle: (settlement) => void settlements.push(settlement),
    hasCaughtUp: () => true,
    caughtUpSince: () => 0
  })
  const recorded: Array<ReadonlyArray<unknown>> = []
  const records = FallbackRecords.of({
    allKept: Effect.void,
    begin: (of, backends) => {
      recorded.push([of.guid, ...backends.map(({ key }) => key)])
      return {
        ended: (key, become) => void recorded.push([key, typeof become === "string" ? become : "again"]),
        abandoned: () => void recorded.push(["abandoned"])
      }
    }
  })
  const services = yield* Layer.build(
    StoredLedger.layer.pipe(
      Layer.provideMerge(Layer.mergeAll(
        Layer.succeed(FallbackRecords, records),
        Layer.succeed(StoreWriter, writer),
        BackendBreakers.layer,
        SettlementPolicy.layer,
        DeliveryIds.layer
      )),
      Layer.provideMerge(Layer.mergeAll(Timers.layerClock, Settings.layerFrom(given)))
    )
  )
  const ledger = Context.get(services, Ledger)
  const breakers = Context.get(services, BackendBreakers)
  /** Records the delivery, with the store's answer to it. */
  const record = Effect.fnUntraced(function*(answer: (request: WriteRequest) => void, of = delivery) {
    return yield* Effect.callback<LedgerEntry>((resume) => {
      ledger.record(of, [a, b, c], (entry) => resume(Effect.succeed(entry)))
      answer(requests.at(-1)!)
    })
  })
  return { breakers, record, recorded, requests, settlements }
})

const setUp = setUpWith({})

const wrote = (request: WriteRequest, keys: ReadonlyArray<string>, id = request.delivery().id): Recorded => ({
  id,
  isRedelivery: false,
  owned: keys
})

const said = (settlements: ReadonlyArray<Settlement>) =>
  settlements.map(({ become, id, key }) => [id, key, typeof become === "string" ? become : "again"])

describe("a delivery that is written down", () => {
  it.effect("is stored as it came, with a row for each backend", () =>
    Effect.gen(function*() {
      const { record, requests } = yield* setUp
      yield* record((request) => request.written(wrote(request, [a.key])))
      const { id, ...stored } = requests[0]!.delivery()
      assert.match(id, /^[\da-f]{8}-[\da-f]{4}-7/)
      assert.deepStrictEqual(stored, {
        requestId: "request",
        hookId: "4711",
        guid: "guid",
        event: "push",
        method: "POST",
        target: "/proxy?x=1",
        headers: delivery.headers,
        body: [Buffer.from("{}")],
        bodyHash: createHash("sha256").update("{}").digest("hex"),
        targets: [a, b, c].map(({ key, url }) => ({ key, url, held: false }))
      })
    }))

  it.effect("goes to the backends whose rows are ours, and their outcomes are kept", () =>
    Effect.gen(function*() {
      const { record, settlements } = yield* setUp
      const entry = yield* record((request) => request.written(wrote(request, [a.key, c.key], "stored")))
      assert.isTrue(entry.isDurable)
      assert.deepStrictEqual(entry.backends, [a, c])
      entry.settled(a, report("delivered"))
      entry.settled(c, report("unreachable"))
      assert.deepStrictEqual(said(settlements), [["stored", a.key, "delivered"], ["stored", c.key, "again"]])
    }))

  it.effect("is due at once where it could not be attempted", () =>
    Effect.gen(function*() {
      const { record, settlements } = yield* setUp
      const entry = yield* record((request) => request.written(wrote(request, [a.key, b.key], "stored")))
      entry.abandoned()
      assert.deepStrictEqual(
        settlements,
        [a, b].map(({ key }) => ({
          id: "stored",
          key,
          attempt: undefined,
          become: { retryIn: 0 }
        }))
      )
    }))

  it.effect("is given up when its first attempt took longer than a delivery may take", () =>
    Effect.gen(function*() {
      const { record, settlements } = yield* setUpWith({ maxDeliveryAge: Duration.seconds(10) })
      const entry = yield* record((request) => request.written(wrote(request, [a.key, b.key, c.key], "stored")))
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(entry.settled(a, report("timed out")))
      yield* TestClock.adjust(1)
      assert.isFalse(entry.settled(b, report("timed out")))
      assert.isTrue(entry.settled(c, report("delivered")))
      assert.deepStrictEqual(said(settlements), [
        ["stored", a.key, "again"],
        ["stored", b.key, "dead"],
        ["stored", c.key, "delivered"]
      ])
    }))

  it.effect("is not kept when it may have arrived, for those who prefer a loss to a duplicate", () =>
    Effect.gen(function*() {
      const { record } = yield* setUpWith({ retryUnknown: false })
      const entry = yield* record((request) => request.written(wrote(request, [a.key, b.key], "stored")))
      assert.isFalse(entry.settled(a, report("timed out")))
      assert.isTrue(entry.settled(b, report("unreachable")))
    }))

  it.effect("gives the place of a probe back that could not be attempted, or is not ours", () =>
    Effect.gen(function*() {
      const { breakers, record, requests } = yield* setUp
      for (const backend of [a, b]) {
        for (let time = 0; time < 5; time += 1) breakers.admitAnyway(backend).ended(report("unreachable"))
      }
      const entry = yield* record((request) => request.written(wrote(request, [a.key, c.key])))
      assert.deepStrictEqual(requests[0]!.delivery().targets.map(({ held }) => held), [false, false, false])
      assert.isUndefined(breakers.admitFresh(a))
      assert.isTrue(breakers.admitFresh(b)?.isProbe)
      entry.abandoned()
      assert.isTrue(breakers.admitFresh(a)?.isProbe)
    }))

  it.effect("is held for a backend that is being probed", () =>
    Effect.gen(function*() {
      const { breakers, record, requests } = yield* setUp
      for (let time = 0; time < 5; time += 1) breakers.admitAnyway(b).ended(report("unreachable"))
      breakers.admitFresh(b)
      yield* record((request) => request.written(wrote(request, [a.key, c.key])))
      assert.deepStrictEqual(requests[0]!.delivery().targets.map(({ held }) => held), [false, true, false])
    }))

  it.effect("has no hook id where GitHub sent none", () =>
    Effect.gen(function*() {
      const { record, requests } = yield* setUp
      yield* record((request) => request.written(wrote(request, [])), { ...delivery, headers: ["A", "b"] })
      assert.strictEqual(requests[0]!.delivery().hookId, "")
    }))
})

describe("a delivery that the store has not taken", () => {
  it.effect("goes to every backend, and nothing of it is kept", () =>
    Effect.gen(function*() {
      const { record, settlements } = yield* setUp
      const entry = yield* record((request) => request.refused("unavailable"))
      assert.isFalse(entry.isDurable)
      assert.strictEqual(entry.lateReply, "forwarding")
      assert.deepStrictEqual(entry.backends, [a, b, c])
      entry.settled(a, report("delivered"))
      assert.deepStrictEqual(settlements, [])
    }))

  it.effect("goes to those too for whom it would have been held, and gives probes back that are not made", () =>
    Effect.gen(function*() {
      const { breakers, record } = yield* setUp
      for (const backend of [a, b]) {
        for (let time = 0; time < 5; time += 1) breakers.admitAnyway(backend).ended(report("unreachable"))
      }
      breakers.admitFresh(a)
      const entry = yield* record((request) => request.refused("unavailable"))
      assert.deepStrictEqual(entry.backends, [a, b, c])
      assert.isUndefined(breakers.admitFresh(b))
      entry.abandoned()
      assert.isTrue(breakers.admitFresh(b)?.isProbe)
    }))

  it.effect("has its rows settled when it was written after all, whenever that is known", () =>
    Effect.gen(function*() {
      const { record, requests, settlements } = yield* setUp
      const entry = yield* record((request) => request.refused("timeout"))
      entry.settled(a, report("delivered"))
      requests[0]!.writtenLate(wrote(requests[0]!, [a.key, b.key, c.key], "late"))
      entry.settled(b, report("rejected"))
      entry.settled(c, report("unreachable"))
      assert.deepStrictEqual(said(settlements), [
        ["late", a.key, "delivered"],
        ["late", b.key, "rejected"],
        ["late", c.key, "again"]
      ])
    }))

  it.effect("has the rows settled that it may have, when nobody knows whether it was written", () =>
    Effect.gen(function*() {
      const { record, requests, settlements } = yield* setUp
      const entry = yield* record((request) => request.refused("unavailable"))
      requests[0]!.writtenLate(undefined)
      entry.settled(a, report("delivered"))
      assert.deepStrictEqual(said(settlements), [[requests[0]!.delivery().id, a.key, "delivered"]])
    }))

  it.effect("has what became of it told, for a record of it", () =>
    Effect.gen(function*() {
      const { record, recorded, requests } = yield* setUpWith({ retryUnknown: false })
      const stored = yield* record((request) => request.written(wrote(request, [a.key])))
      stored.settled(a, report("delivered"))
      assert.deepStrictEqual(recorded, [])
      const entry = yield* record((request) => request.refused("unavailable"))
      entry.settled(a, report("delivered"))
      entry.settled(b, report("unreachable"))
      requests[1]!.writtenLate(undefined)
      entry.settled(c, report("timed out"))
      const abandoned = yield* record((request) => request.refused("full"))
      abandoned.abandoned()
      const begun = ["guid", a.key, b.key, c.key]
      assert.deepStrictEqual(recorded, [
        begun,
        [a.key, "delivered"],
        [b.key, "again"],
        [c.key, "dead"],
        begun,
        ["abandoned"]
      ])
    }))
})
