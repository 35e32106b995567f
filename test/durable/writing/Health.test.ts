import { assert, describe, it } from "@effect/vitest"
import { StoreHealth } from "../../../src/durable/writing/Health.ts"

const setUp = () => {
  const changes: Array<boolean> = []
  const told: Array<string> = []
  const health = new StoreHealth({
    changed: (isUp) => changes.push(isUp),
    told: (isUp, reason) => told.push(isUp ? "up" : `down: ${reason}`)
  })
  return { changes, health, told }
}

describe("the store's health", () => {
  it("is up until a write fails, and says so once", () => {
    const { changes, health, told } = setUp()
    assert.isTrue(health.isUp)
    health.wrote()
    health.failed("full")
    health.failed("full still")
    assert.isFalse(health.isUp)
    assert.deepStrictEqual([changes, told], [[false], ["down: full"]])
  })

  it.each(["wrote", "probed"] as const)("comes back with the first thing that it has taken: it %s", (took) => {
    const { health, told } = setUp()
    health.failed("gone")
    health[took]()
    assert.isTrue(health.isUp)
    assert.deepStrictEqual(told, ["down: gone", "up"])
  })

  it("does not tell of a probe's success twice that nothing else has followed", () => {
    const { changes, health, told } = setUp()
    health.failed("no right")
    for (let second = 0; second < 60; second += 1) {
      health.probed()
      health.failed("no right")
    }
    assert.strictEqual(changes.length, 121)
    assert.deepStrictEqual(told, ["down: no right", "up", "down: no right"])
    health.probed()
    health.wrote()
    assert.strictEqual(told.at(-1), "up")
    health.failed("gone")
    health.probed()
    assert.deepStrictEqual(told.slice(3), ["up", "down: gone", "up"])
  })

  it("goes on believing a probe that fails itself", () => {
    const { health, told } = setUp()
    for (const reason of ["one", "two"]) {
      health.probeFailed(reason)
      health.probed()
    }
    assert.deepStrictEqual(told, ["down: one", "up", "down: two", "up"])
  })
})
