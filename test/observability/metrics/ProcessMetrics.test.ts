import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { open } from "node:fs/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import packageJson from "../../../package.json" with { type: "json" }
import { layer } from "../../../src/observability/metrics/ProcessMetrics.ts"
import { make as makeBudget, MemoryBudget } from "../../../src/runtime/MemoryBudget.ts"
import { scrape, withFreshMetrics } from "../../support/Scrape.ts"
import { eventually } from "../../support/eventually.ts"

const Process = Layer.provideMerge(layer, Layer.succeed(MemoryBudget, makeBudget(1_000)))

const withProcessMetrics = <A, E>(test: Effect.Effect<A, E, Scope.Scope | MemoryBudget>) =>
  withFreshMetrics(Effect.scoped(
    Effect.flatMap(
      Layer.build(Process),
      (services) => Effect.provide(test, services)
    )
  ))

describe("the process", () => {
  it.effect("which version of it runs", () =>
    withProcessMetrics(Effect.gen(function*() {
      const labels = `node_version="${process.version}",version="${packageJson.version}"`
      assert.strictEqual((yield* scrape).value(`sprayproxy_build_info{${labels}}`), 1)
    })))

  it.effect("the memory that deliveries are charged, may be charged and wait for", () =>
    withProcessMetrics(Effect.gen(function*() {
      const budget = yield* MemoryBudget
      const first = budget.open()
      first.hold(900)
      const second = budget.open()
      second.hold(200)
      const leave = second.wait(100, () => {})
      const blocked = budget.open()
      const leaveToo = blocked.wait(100, () => {})
      const seen = yield* scrape
      assert.strictEqual(seen.value("sprayproxy_body_memory_used_bytes"), budget.state().used)
      assert.strictEqual(seen.value("sprayproxy_body_memory_budget_bytes"), 1_000)
      assert.strictEqual(seen.value("sprayproxy_body_memory_waiting"), 1)
      leave()
      leaveToo()
      first.release()
      second.release()
      const after = yield* scrape
      assert.strictEqual(after.value("sprayproxy_body_memory_used_bytes"), 0)
      assert.strictEqual(after.value("sprayproxy_body_memory_waiting"), 0)
    })))

  it.effect("its CPU time only grows, and is what Node says", () =>
    withProcessMetrics(Effect.gen(function*() {
      const before = process.cpuUsage()
      const seen = yield* scrape
      const after = process.cpuUsage()
      const parts = [
        ["process_cpu_user_seconds_total", before.user, after.user],
        ["process_cpu_system_seconds_total", before.system, after.system],
        ["process_cpu_seconds_total", before.user + before.system, after.user + after.system]
      ] as const
      for (const [name, least, most] of parts) {
        assert.isAtLeast(seen.value(name), least / 1e6)
        assert.isAtMost(seen.value(name), most / 1e6)
        assert.strictEqual(seen.families.get(name)!.type, "counter")
      }
    })))

  it.effect("its memory is in bytes", () =>
    withProcessMetrics(Effect.gen(function*() {
      const seen = yield* scrape
      assert.isAbove(seen.value("process_resident_memory_bytes"), 10_000_000)
      assert.isAbove(seen.value("nodejs_heap_size_used_bytes"), 1_000_000)
      assert.isAtLeast(seen.value("nodejs_heap_size_total_bytes"), seen.value("nodejs_heap_size_used_bytes"))
      assert.isAbove(seen.value("nodejs_external_memory_bytes"), 0)
    })))

  it.effect("it started when Node did, in seconds of Unix time", () =>
    withProcessMetrics(Effect.gen(function*() {
      const startedAt = (yield* scrape).value("process_start_time_seconds")
      assert.isAtMost(Math.abs(startedAt - (Date.now() / 1_000 - process.uptime())), 2)
      assert.strictEqual((yield* scrape).value("process_start_time_seconds"), startedAt)
    })))

  it.effect.skipIf(!existsSync("/proc/self/fd"))(
    "its open files, and how many it may open",
    () =>
      withProcessMetrics(Effect.gen(function*() {
        const file = yield* Effect.acquireRelease(
          Effect.promise(() => open("/dev/null")),
          (handle) => Effect.promise(() => handle.close())
        )
        assert.isAbove(file.fd, 0)
        const seen = yield* scrape
        assert.strictEqual(seen.value("process_open_fds"), readdirSync("/proc/self/fd").length)
        assert.include(
          readFileSync("/proc/self/limits", "utf8").replaceAll(/ +/g, " "),
          `Max open files ${seen.value("process_max_fds")} `
        )
      }))
  )
})

describe("the event loop", () => {
  it.effect("has its delay since the last scrape, 0 before there is any", () =>
    withProcessMetrics(Effect.gen(function*() {
      const first = yield* scrape
      assert.isAtLeast(first.value("nodejs_eventloop_lag_seconds"), 0)
      assert.isAtLeast(first.value("nodejs_eventloop_lag_p99_seconds"), 0)
      const p99 = Effect.map(scrape, (seen) => seen.value("nodejs_eventloop_lag_p99_seconds"))
      const run = Effect.runPromiseWith(yield* Effect.context<never>())
      let blocks = 0
      yield* Effect.promise(() =>
        eventually(() => {
          const until = performance.now() + 60
          while (performance.now() < until);
          blocks += 1
          // A delay is the time between two timers that both come after the last scrape.
          return blocks % 4 === 0 && run(Effect.map(p99, (delay) => delay >= 0.04))
        }, "a delay of 40 ms")
      )
    })))
})

describe("garbage collections", () => {
  it.effect("are timed by kind while the layer lives", () =>
    withFreshMetrics(Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(Layer.build(Process), scope)
      for (const kind of ["minor", "major", "incremental", "weakcb"]) assert.isAtLeast(yield* collections(kind), 0)
      const run = Effect.runPromiseWith(yield* Effect.context<never>())
      collectGarbage()
      yield* Effect.promise(() => eventually(async () => await run(collections("major")) > 0, "a collection"))
      yield* Scope.close(scope, Exit.void)
    })))
})

const collections = (kind: string) =>
  Effect.map(scrape, (seen) => seen.value(`nodejs_gc_duration_seconds_count{kind="${kind}"}`))

/** Collects garbage, as `gc` of `node --expose-gc` does. */
const collectGarbage = (): void => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")()
}
