/** The built program with a store on SQLite, from outside. */
/* oxlint-disable no-await-in-loop -- one thing after another is what these tests are about */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { scrape } from "../../crash/Operator.ts"
import { startBackend, type TestBackend } from "../../support/Backend.ts"
import { deliver } from "../../support/GitHub.ts"
import type { Program } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"
import { deliverAs, guidsOf, newStore, startDurable, temporaryDirectory } from "./DurableProgram.ts"

const metricsOf = async (program: Program) =>
  scrape(Number((await program.logged(({ msg }) => msg === "metrics listening"))["port"]))

const fallbacks = async (program: Program) => {
  const seen = await metricsOf(program)
  return seen.keysWith("sprayproxy_store_fallbacks_total").reduce((sum, key) => sum + seen.value(key), 0)
}

/** GitHub's larger payloads: each takes some pages. */
const largeBody = JSON.stringify({ padding: "x".repeat(30_000) })

/** Delivers until an answer is as wanted; all GUIDs that were used. */
const deliverUntil = async (program: Program, wanted: 200 | 202) => {
  const guids: Array<string> = []
  const deadline = performance.now() + 90_000
  for (;;) {
    const guid = randomUUID()
    guids.push(guid)
    const [status] = await deliverAs(program, [guid], largeBody)
    if (status === wanted) return guids
    if (wanted === 202) await pause(50)
    assert.include([200, 202], status)
    assert.isBelow(performance.now(), deadline, `no answer was ${wanted}`)
  }
}

const arrivedAt = (backend: TestBackend, guids: ReadonlyArray<string>) =>
  eventually(() => {
    const arrived = new Set(guidsOf(backend))
    return guids.every((guid) => arrived.has(guid))
  }, "the arrival of all")

/** A file system of 8 MiB, where this may be done. */
const smallDisk = Effect.map(
  Effect.acquireRelease(
    Effect.map(temporaryDirectory, (directory) => {
      const path = join(directory, "disk")
      mkdirSync(path)
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,mode=0700", "sprayproxy-test", path], { stdio: "ignore" })
      return path
    }),
    (path) => Effect.sync(() => execFileSync("umount", ["-l", path]))
  ),
  (path) => ({ path, filler: join(path, "filler") })
)

const canMount = Effect.runSync(Effect.scoped(Effect.match(Effect.sandbox(smallDisk), {
  onFailure: () => false,
  onSuccess: () => true
})))

if (!canMount) console.warn("SKIPPED: nothing can be mounted here, the full disk is not tested")

describe("a store that is full", () => {
  it.live.skipIf(!canMount)(
    "because its disk is: deliveries go without it, and to it again when there is space",
    () =>
      Effect.gen(function*() {
        const backend = yield* startBackend()
        const { filler, path } = yield* smallDisk
        writeFileSync(filler, Buffer.alloc(3 * 1024 * 1024))
        const program = yield* startDurable(`sqlite:${join(path, "deliveries.db")}`, [backend])
        yield* Effect.promise(async () => {
          const filling = await deliverUntil(program, 200)
          assert.isAbove(await fallbacks(program), 0)
          rmSync(filler)
          const recovering = await deliverUntil(program, 202)
          await arrivedAt(backend, [...filling, ...recovering])
          assert.strictEqual((await metricsOf(program)).value("sprayproxy_store_up"), 1)
        })
      }),
    120_000
  )

  it.live("because of its limit: the same", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend()
      const args = ["--store-limit", "2MiB", "--retain-delivered", "1s"]
      const program = yield* startDurable(yield* newStore, [backend], ...args)
      yield* Effect.promise(async () => {
        const filling = await deliverUntil(program, 200)
        const full = "sprayproxy_store_fallbacks_total{reason=\"full\"}"
        assert.isAbove((await metricsOf(program)).value(full), 0)
        assert.strictEqual((await metricsOf(program)).value("sprayproxy_store_up"), 1)
        const recovering = await deliverUntil(program, 202)
        await arrivedAt(backend, [...filling, ...recovering])
        assert.strictEqual(new Set(guidsOf(backend)).size, backend.received.length)
      })
    }), 120_000)

  it.live("and its answer is late: it does not say that it is kept", () =>
    Effect.gen(function*() {
      const backend = yield* startBackend(() => {})
      const args = ["--store-limit", "1MiB", "--reply-deadline", "500ms"]
      const program = yield* startDurable(yield* newStore, [backend], ...args)
      yield* Effect.promise(async () => {
        const reply = await deliver(program.port, "x".repeat(2 ** 20))
        assert.deepStrictEqual([reply.status, reply.text], [202, "forwarding"])
        const seen = await metricsOf(program)
        assert.strictEqual(seen.value("sprayproxy_store_fallbacks_total{reason=\"full\"}"), 1)
        assert.strictEqual(seen.value("sprayproxy_deliveries_total{answer=\"forwarding\",reason=\"none\"}"), 1)
      })
    }), 60_000)
})
