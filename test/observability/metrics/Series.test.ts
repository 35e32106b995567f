import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { observableCounter, observableGauge } from "../../../src/observability/metrics/Series.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"

const name = { name: "test_total", help: "A test." }

describe("a reading", () => {
  it.effect("is read when it is scraped, and leaves with its scope", () =>
    withFreshMetrics(Effect.gen(function*() {
      const scope = yield* Scope.make()
      let value = 1
      let reads = 0
      const read = () => {
        reads += 1
        return value
      }
      yield* Scope.provide(observableGauge({ name: "test", help: "A test." }, read, { a: "b" }), scope)
      assert.strictEqual(reads, 0)
      assert.strictEqual((yield* scrape).value(`test{a="b"}`), 1)
      value = 2
      const seen = yield* scrape
      assert.strictEqual(seen.value(`test{a="b"}`), 2)
      assert.deepInclude(seen.families.get("test"), { help: "A test.", type: "gauge" })
      assert.strictEqual(reads, 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* scrape).samples.size, 0)
    })))

  it.effect("of what only grows is a counter", () =>
    withFreshMetrics(Effect.scoped(Effect.gen(function*() {
      let count = 0.5
      yield* observableCounter(name, () => count += 1)
      const seen = yield* scrape
      assert.strictEqual(seen.value("test_total"), 1.5)
      assert.strictEqual(seen.families.get("test_total")!.type, "counter")
      assert.strictEqual((yield* scrape).value("test_total"), 2.5)
    }))))

  it.effect("that fails takes nothing else of a scrape with it", () =>
    withFreshMetrics(Effect.scoped(Effect.gen(function*() {
      let fails = false
      const read = () => {
        if (fails) throw new Error("EMFILE")
        return 3
      }
      yield* observableGauge({ name: "test", help: "A test." }, read)
      yield* observableCounter(name, read)
      yield* observableCounter({ name: "other_total", help: "A test." }, () => 1)
      assert.strictEqual((yield* scrape).value("test"), 3)
      fails = true
      const seen = yield* scrape
      assert.strictEqual(seen.value("test"), 3)
      assert.strictEqual(seen.value("test_total"), 3)
      assert.strictEqual(seen.value("other_total"), 1)
    }))))

  it.effect("does not end its successor", () =>
    withFreshMetrics(Effect.scoped(Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(observableCounter(name, () => 1), scope)
      yield* observableCounter(name, () => 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* scrape).value("test_total"), 2)
    }))))
})
