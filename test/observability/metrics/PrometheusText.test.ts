import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { parse } from "../../../src/domain/Backend.ts"
import { Metrics } from "../../../src/observability/metrics/Metrics.ts"
import { linesAtOnce, pieces, seriesAtOnce, stream } from "../../../src/observability/metrics/PrometheusText.ts"
import { Scrape, withFreshMetrics } from "../../support/Scrape.ts"

const linesOf = (text: string) => text.split("\n").length - 1

/** The metrics of that many registered backends. */
const withBackends = <A, E>(count: number, test: (context: Context.Context<never>) => Effect.Effect<A, E>) =>
  withFreshMetrics(
    Effect.gen(function*() {
      const metrics = yield* Metrics
      for (let n = 0; n < count; n++) {
        metrics.added(Result.getOrThrow(parse(`https://pac-${n}.example.com`, "static")))
      }
      return yield* test(yield* Effect.context<never>())
    }).pipe(Effect.provide(Metrics.layer))
  )

describe("pieces", () => {
  const word = Arbitrary.schema(Schema.String.check(Schema.isMaxLength(8)))
  const family = Arbitrary.schema(Schema.Struct({
    type: Schema.Literals(["counter", "gauge", "histogram", "frequency", "summary"]),
    isDescribed: Schema.Boolean,
    series: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 })),
    value: Schema.Finite
  }))

  it.effect.prop(
    "put together are what Effect's own formatter writes, whatever is registered and in whatever order",
    { families: Arbitrary.array(family, { maxLength: 12 }), description: word, label: word },
    ({ description, families, label }) =>
      withFreshMetrics(Effect.gen(function*() {
        const context = yield* Effect.context<never>()
        for (let n = 0; n < 40; n++) {
          for (const [index, { isDescribed, series, type, value }] of families.entries()) {
            if (n >= series) continue
            const name = `m${index}_seconds`
            const options = {
              attributes: { host: `${label}${n}`, other: label },
              ...(isDescribed ? { description } : {})
            }
            if (type === "counter") Metric.counter(name, options).updateUnsafe(value, context)
            if (type === "gauge") Metric.gauge(name, options).updateUnsafe(value, context)
            if (type === "frequency") Metric.frequency(name, options).updateUnsafe(label, context)
            if (type === "histogram") {
              Metric.histogram(name, { ...options, boundaries: [0.1, 1, 10] }).updateUnsafe(value, context)
            }
            if (type === "summary") {
              const summary = Metric.summary(name, { ...options, maxAge: "1 day", maxSize: 10, quantiles: [0.5, 1] })
              summary.updateUnsafe(value, context)
            }
          }
        }
        const all = Array.from(pieces(context))
        assert.strictEqual(all.join(""), yield* PrometheusMetrics.format())
        // A frequency is one series, and a summary of two quantiles has four lines.
        const isBounded = families.every(({ type }) => type !== "summary")
        if (isBounded) assert.isBelow(Math.max(...all.map(linesOf)), linesAtOnce + 15 + 2 * families.length)
      }))
  )

  it.effect("of 1,000 backends are small, and HELP and TYPE stand once before a family", () =>
    withBackends(1_000, (context) =>
      Effect.sync(() => {
        const all = Array.from(pieces(context))
        const seen = new Scrape(all.join(""))
        assert.lengthOf(seen.keysWith("pac-999.example.com"), 26)
        assert.isAbove(seen.samples.size, 26_000)
        // A piece that is just below the bound may still take a histogram, and a new family brings two lines of its
        // own.
        assert.isBelow(Math.max(...all.map(linesOf)), linesAtOnce + 15 + 2 * 2)
        assert.isAbove(all.length, seen.samples.size / (linesAtOnce + 15))
      })))

  it.effect("come after no more than a bounded number of series is looked at", () =>
    withBackends(1_000, (context) =>
      Effect.sync(() => {
        let looked = 0
        const registry = Context.get(context, Metric.MetricRegistry)
        const values = new Map(registry)
        values[Symbol.iterator] = function*() {
          for (const entry of registry.entries()) {
            looked += 1
            yield entry
          }
          return undefined
        }
        const counted = Context.add(context, Metric.MetricRegistry, values)
        let before = 0
        for (const piece of pieces(counted)) {
          assert.isAtMost(looked - before, seriesAtOnce)
          if (looked < registry.size) assert.strictEqual(piece, "")
          before = looked
        }
        assert.strictEqual(looked, registry.size)
      })))

  it.effect("of no metrics at all are empty", () =>
    withFreshMetrics(
      Effect.map(Effect.context<never>(), (context) => assert.strictEqual(Array.from(pieces(context)).join(""), ""))
    ))

  it.effect("a backend that is removed or registered meanwhile breaks nothing", () =>
    withFreshMetrics(
      Effect.gen(function*() {
        const metrics = yield* Metrics
        const backends = Array.from(
          { length: 300 },
          (_, n) => Result.getOrThrow(parse(`https://pac-${n}.example.com`, "dynamic"))
        )
        for (const backend of backends.slice(0, 200)) metrics.added(backend)
        let text = ""
        let turn = 0
        for (const piece of pieces(yield* Effect.context<never>())) {
          text += piece
          metrics.removed(backends[turn]!)
          metrics.added(backends[200 + turn]!)
          turn = (turn + 1) % 100
        }
        const seen = new Scrape(text)
        assert.lengthOf(seen.keysWith("pac-150.example.com"), 26)
      }).pipe(Effect.provide(Metrics.layer))
    ))
})

describe("stream", () => {
  it.effect("lets the event loop turn between any two pieces", () =>
    withBackends(1_000, (context) =>
      Effect.gen(function*() {
        let turns = 0
        let running = true
        const count = () => {
          turns += 1
          if (running) setImmediate(count)
        }
        setImmediate(count)
        const chunks = yield* Stream.runCollect(stream)
        running = false
        const expected = Array.from(pieces(context))
        assert.lengthOf(chunks, expected.length)
        assert.isAtLeast(turns, chunks.length - 1)
        assert.strictEqual(Buffer.concat(chunks).toString(), expected.join(""))
      })))

  it.effect("formats nothing ahead of its reader", () =>
    withFreshMetrics(Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      let read = 0
      for (let n = 0; n < 10 * linesAtOnce; n++) {
        Metric.registerUnsafe(Metric.gauge("readings", { attributes: { n: String(n) } }), context, {
          get: () => ({ value: read += 1 }),
          update: () => {},
          modify: () => {}
        })
      }
      yield* Stream.runDrain(Stream.take(stream, 2))
      assert.strictEqual(read, 2 * linesAtOnce)
    })))
})
