/** The effect of a backlog of 100,000 deliveries on the program. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { layerWebCrypto, SecureRandom } from "effect/crypto/SecureRandom"
import { createHash, createHmac, randomUUID } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DeliveryStore } from "../../../src/store/DeliveryStore.ts"
import * as SqlDeliveryStore from "../../../src/store/SqlDeliveryStore.ts"
import type { NewDelivery } from "../../../src/store/contract/Queue.ts"
import { scrape } from "../../crash/Operator.ts"
import { startBackend } from "../../support/Backend.ts"
import { deliver, secret, send } from "../../support/GitHub.ts"
import { startProgram } from "../../support/Program.ts"
import { eventually } from "../../support/eventually.ts"

const count = 100_000
const body = Buffer.from(JSON.stringify({ zen: "Keep it logically awesome.", padding: "x".repeat(900) }))
const signature = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`
const bodyHash = createHash("sha256").update(body).digest("hex")

const newDelivery = (id: string, url: string): NewDelivery => ({
  id,
  requestId: id,
  hookId: "",
  guid: id,
  event: "ping",
  method: "POST",
  target: "/proxy",
  headers: ["X-GitHub-Delivery", id, "X-Hub-Signature-256", signature, "Content-Length", String(body.length)],
  body: [body],
  bodyHash,
  targets: [{ key: url, url, held: true }]
})

/** Stores deliveries that a backend is still to get. */
const fill = (path: string, url: string) =>
  Effect.gen(function*() {
    const store = yield* DeliveryStore
    const { uuidV7 } = yield* SecureRandom
    for (let written = 0; written < count; written += 500) {
      const deliveries: Array<NewDelivery> = []
      for (let n = 0; n < 500; n += 1) deliveries.push(newDelivery(yield* uuidV7(), url))
      yield* store.write({ deliveries, settlements: [] })
    }
  }).pipe(
    Effect.provide([SqlDeliveryStore.layer({ kind: "sqlite", path }, { owner: "filler" }), layerWebCrypto])
  )

const residentMegabytes = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_024

describe("a backlog of 100,000", () => {
  it.live("drains bit by bit, and neither fresh deliveries nor an operator wait for it", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-backlog-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true }))
      )
      const backend = yield* startBackend((_request, response) => void response.writeHead(202).end())
      const path = join(directory, "deliveries.db")
      // A backend's key is its URL without the slash at its end.
      yield* fill(path, new URL(backend.url).origin)

      const program = yield* startProgram(["--backend", backend.url, "--store", `sqlite:${path}`])
      yield* Effect.promise(async () => {
        const guids = () => backend.received.map(({ headers }) => String(headers["x-github-delivery"]))
        await eventually(() => guids().length > 20)
        // On a busy machine the store may be too slow for one, which then goes without it.
        let before = 0
        let fresh = ""
        await eventually(async () => {
          before = guids().length
          fresh = randomUUID()
          return (await deliver(program.port, "{}", { headers: { "x-github-delivery": fresh } })).status === 202
        }, "a fresh delivery's being kept")
        await eventually(() => guids().includes(fresh))
        // It went at once: hardly any of the backlog in the same time.
        assert.isBelow(guids().indexOf(fresh), before + 2_000)

        const page = JSON.parse(
          (await send(program.port, { method: "GET", path: "/deliveries?state=pending&limit=500" })).text
        )
        assert.lengthOf(page.deliveries, 500)
        assert.isString(page.next)

        const metricsPort = Number((await program.logged(({ msg }) => msg === "metrics listening"))["port"])
        const host = new URL(backend.url).host
        const backlog = (await scrape(metricsPort)).value(`sprayproxy_backlog_deliveries{host="${host}"}`)
        assert.isAtLeast(backlog, count / 2)
        assert.isAtMost(backlog, count)
        // None of it is held in memory but what is under way.
        assert.isBelow(residentMegabytes(program.process.pid!), 384)
        const seen = guids()
        assert.strictEqual(new Set(seen).size, seen.length)
      })
    }), 180_000)
})
