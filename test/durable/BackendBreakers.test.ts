import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import { parse } from "../../src/domain/Backend.ts"
import { type Admission, BackendBreakers } from "../../src/durable/BackendBreakers.ts"
import { Timers } from "../../src/runtime/Timers.ts"

const backend = Result.getOrThrow(parse("http://a.test", "static"))
const other = Result.getOrThrow(parse("http://b.test", "static"))

const provided = Effect.provide(BackendBreakers.layer.pipe(Layer.provide(Timers.layerClock)))

const away = { outcome: "unreachable", status: undefined } as const
const answered = (status: number) => ({ outcome: "failed", status }) as const
const delivered = { outcome: "delivered", status: 202 } as const

type Breakers = BackendBreakers["Service"]

const fail = (breakers: Breakers, times: number, of = backend) => {
  for (let time = 0; time < times; time += 1) breakers.admitAnyway(of).ended(away)
}

/** Leave that has to be there. */
const given = (admission: Admission | undefined): Admission => {
  assert.isDefined(admission)
  return admission!
}

const isClosed = (breakers: Breakers) => {
  const admissions = [breakers.admitFresh(backend), breakers.admitStored(backend)]
  for (const admission of admissions) admission?.notMade()
  return admissions.every((admission) => admission?.isProbe === false)
}

describe("a backend's breaker", () => {
  it.effect("opens after five failures in a row, for this backend alone", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 4)
      breakers.admitAnyway(backend).ended(delivered)
      fail(breakers, 4)
      assert.isTrue(isClosed(breakers))
      fail(breakers, 1)
      assert.isFalse(isClosed(breakers))
      assert.isFalse(given(breakers.admitFresh(other)).isProbe)
    }).pipe(provided))

  it.effect.each([429, 502, 503, 504])(
    "opens on %d, which is said in place of a backend that is away",
    (status) =>
      Effect.gen(function*() {
        const breakers = yield* BackendBreakers
        for (let time = 0; time < 5; time += 1) breakers.admitAnyway(backend).ended(answered(status))
        assert.isFalse(isClosed(breakers))
      }).pipe(provided)
  )

  it.effect.each([200, 301, 400, 401, 403, 404, 413, 414, 500, 501])(
    "takes %d for an answer: it does not open, and closes if it was open",
    (status) =>
      Effect.gen(function*() {
        const breakers = yield* BackendBreakers
        for (let time = 0; time < 50; time += 1) breakers.admitAnyway(backend).ended(answered(status))
        assert.isTrue(isClosed(breakers))
        fail(breakers, 5)
        given(breakers.admitFresh(backend)).ended(answered(status))
        assert.isTrue(isClosed(breakers))
        fail(breakers, 4)
        assert.isTrue(isClosed(breakers), "it counts from zero again")
      }).pipe(provided)
  )

  it.effect("lets a delivery that has just come find out at once, one at a time", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      for (let time = 0; time < 3; time += 1) {
        const probe = given(breakers.admitFresh(backend))
        assert.isTrue(probe.isProbe)
        assert.isUndefined(breakers.admitFresh(backend))
        probe.ended(away)
      }
      given(breakers.admitFresh(backend)).ended(delivered)
      assert.isTrue(isClosed(breakers))
    }).pipe(provided))

  it.effect("lets one of the backlog find out after 1 s, and after each that fails in twice the time, up to 15 s", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      const waits: Array<number> = []
      for (let probe = 0; probe < 6; probe += 1) {
        let waited = 0
        while (!breakers.mayAdmitStored(backend)) {
          assert.isUndefined(breakers.admitStored(backend))
          yield* TestClock.adjust(500)
          waited += 500
        }
        waits.push(waited)
        const admitted = given(breakers.admitStored(backend))
        assert.isUndefined(breakers.admitStored(backend))
        // A fresh delivery has a probe of its own, and its failure is not the backlog's.
        given(breakers.admitFresh(backend)).ended(away)
        admitted.ended(away)
      }
      assert.deepStrictEqual(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000])
    }).pipe(provided))

  it.effect("takes one of the backlog at once when a delivery was held because of a probe", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      const hanging = given(breakers.admitFresh(backend))
      assert.isUndefined(breakers.admitStored(backend))
      assert.isUndefined(breakers.admitFresh(backend))
      const latest = given(breakers.admitStored(backend))
      assert.isTrue(latest.forHeld)
      latest.ended(delivered)
      assert.isTrue(isClosed(breakers))
      // It hung on this one alone: that is no sign of now.
      for (let time = 0; time < 4; time += 1) breakers.admitAnyway(backend).ended(away)
      hanging.ended(away)
    }).pipe(provided))

  it.effect("keeps nobody out for longer than a second because of a probe that hangs", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      yield* TestClock.adjust(1_000)
      given(breakers.admitFresh(backend))
      given(breakers.admitStored(backend))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual([breakers.admitFresh(backend), breakers.admitStored(backend)], [undefined, undefined])
      yield* TestClock.adjust(1)
      assert.isTrue(given(breakers.admitFresh(backend)).isProbe)
      assert.isTrue(given(breakers.admitStored(backend)).isProbe)
    }).pipe(provided))

  it.effect("counts no failure of an attempt that began before the last answer", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      const hanging = Array.from({ length: 20 }, () => breakers.admitAnyway(backend))
      yield* TestClock.adjust(1)
      breakers.admitAnyway(backend).ended(delivered)
      for (const admission of hanging) admission.ended(away)
      assert.isTrue(isClosed(breakers))
    }).pipe(provided))

  it.effect("takes no failure of an attempt from before it opened for its probe's", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      const before = Array.from({ length: 10 }, () => breakers.admitAnyway(backend))
      fail(breakers, 5)
      yield* TestClock.adjust(1_000)
      const probe = given(breakers.admitStored(backend))
      for (const admission of before) admission.ended(away)
      assert.isUndefined(breakers.admitStored(backend), "the place is still the probe's")
      probe.ended(away)
      yield* TestClock.adjust(1_999)
      assert.isUndefined(breakers.admitStored(backend), "only its own failure has doubled the wait")
      yield* TestClock.adjust(1)
      given(breakers.admitStored(backend))
    }).pipe(provided))

  it.effect("gives the place of a probe that was not made to another, and of no attempt else", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      const before = breakers.admitAnyway(backend)
      fail(breakers, 5)
      yield* TestClock.adjust(1_000)
      const [fresh, stored] = [given(breakers.admitFresh(backend)), given(breakers.admitStored(backend))]
      before.notMade()
      assert.deepStrictEqual([breakers.admitFresh(backend), breakers.admitStored(backend)], [undefined, undefined])
      fresh.notMade()
      assert.isUndefined(breakers.admitStored(backend))
      given(breakers.admitFresh(backend))
      fresh.notMade()
      assert.isUndefined(breakers.admitFresh(backend), "said twice, it is somebody else's")
      stored.notMade()
      given(breakers.admitStored(backend))
    }).pipe(provided))

  it.effect("takes one of the backlog at once again where the held one was not found yet", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      given(breakers.admitFresh(backend))
      breakers.admitFresh(backend)
      given(breakers.admitStored(backend)).notMade()
      assert.isTrue(given(breakers.admitStored(backend)).forHeld)
      assert.isUndefined(breakers.admitStored(backend))
    }).pipe(provided))

  it.effect("tells once how many were held while the probe was under way that closed it", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      const failing = given(breakers.admitFresh(backend))
      breakers.admitFresh(backend)
      failing.ended(away)
      const probe = given(breakers.admitFresh(backend))
      for (let time = 0; time < 3; time += 1) assert.isUndefined(breakers.admitFresh(backend))
      assert.strictEqual(breakers.takeHeld(backend), 0)
      probe.ended(delivered)
      assert.deepStrictEqual([breakers.takeHeld(backend), breakers.takeHeld(backend)], [3, 0])
    }).pipe(provided))

  it.effect("tells of those too that were held because of a probe that still hangs", () =>
    Effect.gen(function*() {
      const breakers = yield* BackendBreakers
      fail(breakers, 5)
      given(breakers.admitFresh(backend))
      for (let time = 0; time < 3; time += 1) breakers.admitFresh(backend)
      given(breakers.admitStored(backend)).ended(delivered)
      assert.strictEqual(breakers.takeHeld(backend), 3)

      fail(breakers, 5)
      given(breakers.admitFresh(backend))
      for (let time = 0; time < 4; time += 1) breakers.admitFresh(backend)
      yield* TestClock.adjust(1_000)
      given(breakers.admitFresh(backend)).ended(delivered)
      assert.strictEqual(breakers.takeHeld(backend), 4)
    }).pipe(provided))
})
