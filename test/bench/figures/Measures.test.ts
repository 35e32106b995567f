import { assert, describe, it } from "@effect/vitest"
import { measuresOf, valuesOf } from "../../../bench/figures/Measures.ts"
import { missedBy } from "../../../bench/figures/Scenario.ts"

const turn = (floor: number, logged: number, server: number) => ({
  floor: { cpu: floor },
  "logged floor": { cpu: logged },
  sprayproxy: { cpu: server }
})

describe("measuresOf", () => {
  it("pairs what was measured in the same turn", () => {
    // The machine was twice as slow in the second turn and four times in the third.
    const [measure] = measuresOf([[turn(100, 120, 150), turn(200, 240, 300)], [turn(400, 480, 600)]])
    const { floor, "logged floor": logged, sprayproxy } = measure!.contenders
    assert.deepStrictEqual(floor, { value: 200 })
    assert.deepStrictEqual(logged?.ratios, { floor: { median: 1.2 } })
    assert.deepStrictEqual(sprayproxy, {
      value: 300,
      ratios: { floor: { median: 1.5 }, "logged floor": { median: 1.25 } }
    })
  })

  it("compares with whom it is told to", () => {
    const turns = [[{ ours: { cpu: 90 }, other: { cpu: 100 } }]]
    const [measure] = measuresOf(turns, {}, (name) => name === "ours" ? ["other"] : [])
    assert.deepStrictEqual(measure!.contenders, {
      ours: { value: 90, ratios: { other: { median: 0.9 } } },
      other: { value: 100 }
    })
  })

  it("leaves out what a contender did not show, and a ratio to nothing", () => {
    const [cpu, heap] = measuresOf([[{ floor: { cpu: 0 }, sprayproxy: { cpu: 5, heap: 7 } }]])
    assert.deepStrictEqual(cpu!.contenders["sprayproxy"], { value: 5 })
    assert.deepStrictEqual(heap!.contenders, { sprayproxy: { value: 7 } })
  })
})

describe("missedBy", () => {
  const target = { on: "ratio", to: "floor", atMost: 1.25 } as const

  it("is the share by which a ratio is too large", () => {
    const [measure] = measuresOf([[turn(100, 120, 150)]], { cpu: target })
    assert.closeTo(missedBy(measure!, "sprayproxy")!, 0.2, 1e-9)
    assert.isUndefined(missedBy(measure!, "logged floor"))
  })

  it("is 0 where the target is reached, and undefined where there is nothing to compare", () => {
    const [measure] = measuresOf([[turn(100, 120, 125)]], { cpu: target })
    assert.strictEqual(missedBy(measure!, "sprayproxy"), 0)
    const [alone] = valuesOf({ sprayproxy: { cpu: 9 } }, { cpu: target })
    assert.isUndefined(missedBy(alone!, "sprayproxy"))
  })
})
