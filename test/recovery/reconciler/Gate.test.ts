import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import * as Gate from "../../../src/recovery/reconciler/Gate.ts"

const second = 1_000
const minute = 60 * second

/** Asks once a second whenever the gate lets it, from `from` until `to`. Returns the gate and when requests went. */
const hammer = (from: Gate.Gate, start: number, end: number) => {
  const requests: Array<{ readonly at: number; readonly leave: Gate.Leave }> = []
  let gate = from
  for (let now = start; now < end; now += second) {
    gate = Gate.passed(gate, now)
    const leave = Gate.leave(gate, now)
    if (leave === "wait") continue
    requests.push({ at: now, leave })
    gate = Gate.asked(gate, now)
  }
  return { gate, requests }
}

describe("the gate", () => {
  it("lets a handful of requests out before anything has arrived", () => {
    const { requests } = hammer(Gate.unproven, 0, 2 * minute)
    assert.deepStrictEqual(requests.map(({ at, leave }) => [at / second, leave]), [
      [0, "request"],
      [1, "request"],
      [2, "request"],
      [3, "request"],
      [4, "request"]
    ])
  })

  it("costs a front door with a wrong secret a handful of requests, and then four probes an hour", () => {
    const { gate, requests } = hammer(Gate.unproven, 0, 10 * 60 * minute)
    const probes = requests.filter(({ leave }) => leave === "probe").map(({ at }) => at / minute)
    assert.deepStrictEqual(probes.slice(0, 7), [3, 5, 9, 17, 32, 47, 62])
    assert.isFalse(gate.isOpen)
    assert.isAtMost(requests.length, 5 + 4 + 4 * 10)
  })

  it("opens with any arrival, and is closed no sooner than two minutes after the next request", () => {
    const { gate, requests } = hammer(Gate.proven, 10 * minute, 13 * minute + second)
    assert.isFalse(gate.isOpen)
    assert.lengthOf(requests, 101)
    assert.strictEqual(requests[100]!.leave, "probe")
    assert.strictEqual(requests[100]!.at, 13 * minute)
  })

  it("stays open while deliveries arrive, however many are asked for", () => {
    let gate = Gate.unproven
    for (let now = 0; now < 60 * minute; now += second) {
      gate = Gate.passed(gate, now)
      assert.strictEqual(Gate.leave(gate, now), "request")
      gate = Gate.asked(gate, now)
      if (now % (4 * second) === 0) gate = Gate.proven
    }
  })

  it("is not closed by time alone", () => {
    assert.strictEqual(Gate.leave(Gate.passed(Gate.proven, 24 * 60 * minute), 24 * 60 * minute), "request")
  })

  it.prop(
    "never lets more than its number of requests out between two arrivals, however they come",
    { arrivals: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 600 })))) },
    ({ arrivals }) => {
      let gate = Gate.unproven
      let now = 0
      let most = 5
      for (const after of arrivals) {
        const { requests } = hammer(gate, now, now + after * second)
        now += after * second
        assert.isAtMost(requests.filter(({ leave }) => leave === "request").length, most)
        assert.isAtMost(requests.filter(({ leave }) => leave === "probe").length, 3)
        gate = Gate.proven
        most = 100
      }
    }
  )
})
