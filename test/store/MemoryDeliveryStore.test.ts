import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { StoreUnavailable } from "../../src/store/contract/Unavailable.ts"
import * as MemoryDeliveryStore from "../support/MemoryDeliveryStore.ts"
import { Databases, newDelivery, opened } from "../support/StoreDatabases.ts"
import { deliveryStoreContract, recoveryContract } from "./contract/DeliveryStoreContract.ts"

deliveryStoreContract("memory", Databases.layerMemory, { replicas: true })

recoveryContract("memory", Databases.layerMemory, { replicas: true })

const store = (shared: MemoryDeliveryStore.MemoryDatabase) => opened(MemoryDeliveryStore.layer({ shared }))

describe("a memory database that is told to", () => {
  it.effect("fails does nothing", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const { list, write } = yield* store(database)
      database.fail = true
      const error = yield* Effect.flip(write({ deliveries: [newDelivery()], settlements: [] }))
      assert.instanceOf(error, StoreUnavailable)
      database.fail = false
      assert.deepStrictEqual((yield* list({}, { limit: 10 })).deliveries, [])
    }))

  it.effect("lose its answers writes nevertheless", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const { load, write } = yield* store(database)
      const delivery = newDelivery()
      database.losesAnswers = true
      assert.instanceOf(yield* Effect.flip(write({ deliveries: [delivery], settlements: [] })), StoreUnavailable)
      database.losesAnswers = false
      assert.strictEqual((yield* load(delivery.id))?.id, delivery.id)
    }))

  it.effect("hang answers when it is resumed", () =>
    Effect.gen(function*() {
      const database = new MemoryDeliveryStore.MemoryDatabase()
      const { write } = yield* store(database)
      const delivery = newDelivery()
      database.hang()
      const [waiting, interrupted] = [
        yield* Effect.forkChild(write({ deliveries: [delivery], settlements: [] })),
        yield* Effect.forkChild(write({ deliveries: [newDelivery()], settlements: [] }))
      ]
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(waiting.pollUnsafe())
      yield* Fiber.interrupt(interrupted)
      database.resume()
      assert.strictEqual((yield* Fiber.join(waiting))[0]?.id, delivery.id)
      assert.strictEqual(database.deliveries.size, 1)
    }))
})
