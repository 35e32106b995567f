import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlDeliveryStore from "./src/SqlDeliveryStore.ts"
import { DeliveryStore, type NewDelivery, type Settlement } from "./src/DeliveryStore.ts"
import * as fs from "node:fs"
import { randomBytes, randomUUID } from "node:crypto"
const B = +process.argv[3]!, N = +process.argv[4]!
const dir = process.env.DIR ?? "/tmp/sq"
const targets = ["a", "b", "c"].map(k => ({ key: `https://pac-${k}.example.com`, url: `https://pac-${k}.example.com`, held: false }))
const hdr = Array.from({ length: 40 }, (_, i) => i % 2 ? "value-" + randomBytes(10).toString("hex") : "X-Header-" + i)
const body = randomBytes(7000), bh = randomBytes(32).toString("hex")
let seq = Date.now()
const mk = (): NewDelivery => ({ id: (seq++).toString(16).padStart(12, "0").replace(/^(.{8})/, "$1-") + "-7000-8000-" + randomBytes(6).toString("hex"), requestId: randomUUID(), hookId: "42", guid: randomUUID(), event: "push", method: "POST", target: "/hook?x=1", headers: hdr, body, bodyHash: bh, targets })
const loc = process.argv[2] === "pg" ? { kind: "postgres" as const, url: Redacted.make(process.env.PGURL!) } : { kind: "sqlite" as const, path: dir + "/bench.db" }
if (loc.kind === "sqlite") for (const s of ["", "-wal"]) fs.rmSync(loc.path + s, { force: true })
await Effect.runPromise(Effect.gen(function*() {
  const s = yield* DeliveryStore
  const run = function*(n: number) {
    let prev: ReadonlyArray<NewDelivery> = []
    for (let i = 0; i < n; i += B) {
      const deliveries = Array.from({ length: B }, mk)
      const settlements = prev.flatMap(d => targets.map((t): Settlement => ({ id: d.id, key: t.key, attempt: { at: Date.now(), outcome: "delivered", status: 202, latency: 12.5, error: undefined, answer: undefined }, become: "delivered" })))
      yield* s.write({ deliveries, settlements }); prev = deliveries
    }
  }
  yield* Effect.gen(() => run(N / 5))
  const gen0 = process.cpuUsage(); for (let i = 0; i < 2000; i++) mk(); const g = process.cpuUsage(gen0); const gen = (g.user + g.system) / 2000
  const c0 = process.cpuUsage(), t0 = performance.now()
  yield* Effect.gen(() => run(N))
  const c = process.cpuUsage(c0)
  console.log(process.argv[2], "batch", B, "wall us/delivery", ((performance.now() - t0) * 1000 / N).toFixed(0), "cpu us/delivery", ((c.user + c.system) / N - gen).toFixed(0), "user", (c.user / N).toFixed(0), "sys", (c.system / N).toFixed(0))
  const t1 = performance.now(), c1 = process.cpuUsage(); let looked = 0
  while (yield* s.prune({ delivered: 0, dead: 0, maxAge: 1e9 }, 1000)) looked++
  const c2 = process.cpuUsage(c1); console.log("prune us/delivery", ((performance.now() - t1) * 1000 / (N * 1.2)).toFixed(0), "cpu", ((c2.user + c2.system) / (N * 1.2)).toFixed(0), looked)
}).pipe(Effect.provide(SqlDeliveryStore.layer(loc, { owner: "me-" + randomUUID() }))) as any)
