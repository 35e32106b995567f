import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { StoreMetrics } from "../../src/durable/StoreMetrics.ts"
import { scrape, withFreshMetrics } from "../support/Scrape.ts"

const withMetrics = <A, E, R>(test: (metrics: StoreMetrics["Service"]) => Effect.Effect<A, E, R>) =>
  withFreshMetrics(Effect.scoped(
    Effect.flatMap(Layer.build(StoreMetrics.layer), (services) => test(Context.get(services, StoreMetrics)))
  ))

const nothing = { pending: 0, dead: 0, oldestAge: 0 }
const redeliveries = (host: string) => `sprayproxy_redeliveries_total{host="${host}"}`

describe("the series of a backend in a store", () => {
  it.effect("are there before anything of it was sent again, and go with it", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.sentAgain("pac.test/early")
      metrics.backlogs(new Map([["pac.test", nothing], ["pac.test/early", { pending: 2, dead: 1, oldestAge: 3 }]]))
      metrics.sentAgain("pac.test")
      metrics.sentAgain("pac.test")
      const before = yield* scrape
      assert.strictEqual(before.value(redeliveries("pac.test")), 2)
      assert.strictEqual(before.value(redeliveries("pac.test/early")), 1)
      assert.strictEqual(before.value(`sprayproxy_backlog_deliveries{host="pac.test/early"}`), 2)
      metrics.backlogs(new Map([["pac.test", nothing]]))
      const after = yield* scrape
      assert.deepStrictEqual(after.keysWith("pac.test/early"), [])
      assert.lengthOf(after.keysWith("pac.test"), 4)
    })))

  it.effect("do not come back with an attempt that ends late", () =>
    withMetrics(Effect.fnUntraced(function*(metrics) {
      metrics.backlogs(new Map([["pac.test", nothing]]))
      metrics.sentAgain("pac.test")
      metrics.backlogs(new Map())
      metrics.sentAgain("pac.test")
      metrics.backlogs(new Map())
      assert.deepStrictEqual((yield* scrape).keysWith("pac.test"), [])
      metrics.backlogs(new Map([["pac.test", nothing]]))
      assert.strictEqual((yield* scrape).value(redeliveries("pac.test")), 0)
    })))
})
