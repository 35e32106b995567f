import { assert, describe, it } from "@effect/vitest"
import { median, quantile, ratioOf } from "../../../bench/figures/Statistics.ts"

/** Mulberry32: the same numbers each time. */
const seeded = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

const normal = (random: () => number) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

/** Ratios of slots as they are measured: starts differ by `between`, slots of a start by `within`. */
const simulated = (
  random: () => number,
  { between, ratio, slots, starts, within }: {
    readonly ratio: number
    readonly starts: number
    readonly slots: number
    readonly between: number
    readonly within: number
  }
) =>
  Array.from({ length: starts }, () => {
    const ofStart = Math.log(ratio) + between * normal(random)
    return Array.from({ length: slots }, () => Math.exp(ofStart + within * normal(random)))
  })

/** How many of 40 intervals hold `held`. */
const timesHeld = (held: number, plan: Parameters<typeof simulated>[1]): number => {
  const random = seeded(1)
  let times = 0
  for (let i = 0; i < 40; i++) {
    const { interval } = ratioOf(simulated(random, plan), random)
    if (interval![0] <= held && held <= interval![1]) times += 1
  }
  return times
}

describe("ratioOf", () => {
  it("is the median of all pairs", () => {
    assert.strictEqual(ratioOf([[1, 2], [9]]).median, 2)
  })

  it("has no interval of fewer than six pairs", () => {
    assert.isUndefined(ratioOf([[1, 1.1, 1.2], [1, 1.1]]).interval)
    assert.isDefined(ratioOf([[1, 1.1, 1.2], [1, 1.1, 1.2]]).interval)
  })

  it("has no width where all pairs agree", () => {
    assert.deepStrictEqual(ratioOf([[1.5, 1.5, 1.5], [1.5, 1.5, 1.5]]), { median: 1.5, interval: [1.5, 1.5] })
  })

  it("is hardly moved by a slot that something else disturbed", () => {
    const starts = Array.from({ length: 4 }, () => [0.98, 0.99, 1, 1.01, 1.02, 9])
    const { interval, median: middle } = ratioOf(starts, seeded(1))
    assert.isAtMost(middle, 1.01)
    assert.isAtMost(interval![1], 1.02)
  })

  it.each([
    { starts: 3, slots: 12, between: 0, within: 0.2 },
    { starts: 4, slots: 14, between: 0.02, within: 0.2 },
    { starts: 6, slots: 10, between: 0.03, within: 0.1 }
  ])(
    "holds the true ratio in 19 of 20 runs: $starts starts of $slots slots, $between between, $within within",
    (plan) => {
      assert.isAtLeast(timesHeld(1, { ...plan, ratio: 1 }), 37)
    }
  )

  it("tells a difference of 10 % from none", () => {
    assert.isAtMost(timesHeld(1, { ratio: 0.9, starts: 6, slots: 12, between: 0.02, within: 0.1 }), 2)
  })

  it("is wider where starts differ than slots of one start would say", () => {
    const starts = [[1, 1.01, 1.02], [1.2, 1.21, 1.22]]
    const { interval } = ratioOf(starts, seeded(1))
    assert.isAtMost(interval![0], 1.02)
    assert.isAtLeast(interval![1], 1.2)
  })
})

describe("quantile", () => {
  it("lies between two values where it falls between them", () => {
    assert.strictEqual(quantile([1, 2, 4], 0.75), 3)
    assert.isNaN(quantile([], 0.5))
  })

  it("is the median of values in any order", () => {
    assert.strictEqual(median([3, 1, 2]), 2)
    assert.strictEqual(median([4, 1, 2, 3]), 2.5)
  })
})
