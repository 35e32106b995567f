import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlDeliveryStore from "./src/SqlDeliveryStore.ts"
import { DeliveryStore, type NewDelivery } from "./src/DeliveryStore.ts"
import { randomBytes, randomUUID } from "node:crypto"
import * as fs from "node:fs"
const targets = ["a", "b", "c"].map(k => ({ key: `https://pac-${k}.example.com`, url: `https://pac-${k}.example.com`, held: k === "a" }))
const body = randomBytes(500), bh = randomBytes(32).toString("hex"); let seq = Date.now()
const mk = (): NewDelivery => ({ id: (seq++).toString(16).padStart(12, "0").replace(/^(.{8})/, "$1-") + "-7000-8000-" + randomBytes(6).toString("hex"), requestId: randomUUID(), hookId: "42", guid: randomUUID(), event: "push", method: "POST", target: "/hook?x=1", headers: ["a", "b"], body, bodyHash: bh, targets })
const loc = process.argv[2] === "pg" ? { kind: "postgres" as const, url: Redacted.make(process.env.PGURL!) } : { kind: "sqlite" as const, path: "/tmp/sqlstore/backlog.db" }
if (loc.kind === "sqlite") for (const s of ["", "-wal"]) fs.rmSync(loc.path + s, { force: true })
const N = +process.argv[3]!
await Effect.runPromise(Effect.gen(function*() {
  const s = yield* DeliveryStore
  const t = <A>(name: string, e: Effect.Effect<A, any>, show = false) => Effect.suspend(() => { const t0 = performance.now(); return Effect.map(e, (x) => { console.log(name.padEnd(30), (performance.now() - t0).toFixed(1), "ms", show ? JSON.stringify(x).slice(0, 150) : ""); return x }) })
  const t0 = performance.now()
  let prev: NewDelivery[] = []
  for (let i = 0; i < N; i += 200) { const ds = Array.from({ length: 200 }, mk); yield* s.write({ deliveries: ds, settlements: prev.flatMap(d => targets.slice(1).map(x => ({ id: d.id, key: x.key, attempt: undefined, become: "delivered" as const }))) }); prev = ds }
  console.log("filled", ((performance.now() - t0) / 1000).toFixed(1), "s")
  const k = targets[0]!.key
  for (let r = 0; r < 2; r++) {
    yield* t("due", s.due(targets.map(x => x.key)), true)
    yield* t("claim 16 oldest", s.claim(k, 16, "oldest")); yield* t("claim 16 newest", s.claim(k, 16, "newest")); yield* t("claim 500 oldest", s.claim(k, 500, "oldest"))
    yield* t("renew", s.renew); yield* t("backlogs", s.backlogs, true); yield* t("usage", s.usage, true)
    yield* t("prune 1000", s.prune({ delivered: 86400e3, dead: 7 * 86400e3, maxAge: 72 * 3600e3 }, 1000), true)
    yield* t("list", s.list({}, { limit: 50 })); yield* t("list pending", s.list({ state: "pending" }, { limit: 50 })); yield* t("list pending k", s.list({ state: "pending", backend: k }, { limit: 50 })); yield* t("list rare event", s.list({ event: "nope" }, { limit: 50 })); yield* t("list delivered rare key", s.list({ state: "delivered", backend: "x" }, { limit: 50 }))
    yield* t("write 1", s.write({ deliveries: [mk()], settlements: [] }))
  }
  while (yield* s.prune({ delivered: 86400e3, dead: 7 * 86400e3, maxAge: 72 * 3600e3 }, 10000));
  yield* t("prune idle", s.prune({ delivered: 86400e3, dead: 7 * 86400e3, maxAge: 72 * 3600e3 }, 1000), true)
  yield* t("cancel all", s.cancel(k), true); yield* t("redeliver 1000", s.redeliver({ state: "cancelled" }, 1000), true); yield* t("list cancelled", s.list({ state: "cancelled" }, { limit: 50 }))
}).pipe(Effect.provide(SqlDeliveryStore.layer(loc, { owner: "me-" + randomUUID() }))) as any)
