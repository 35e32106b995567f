import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlDeliveryStore from "./src/SqlDeliveryStore.ts"
import { DeliveryStore, type NewDelivery } from "./src/DeliveryStore.ts"
import * as fs from "node:fs"
import { randomBytes, randomUUID, hash } from "node:crypto"
let seq = 0
const targets = [{ key: "http://a.example", url: "http://a.example", held: false }, { key: "http://b.example", url: "http://b.example", held: false }, { key: "http://c.example", url: "http://c.example", held: true }]
const mk = (over: Partial<NewDelivery> = {}): NewDelivery => { const body = over.body ?? randomBytes(7000); return { id: "0199" + (seq++).toString(16).padStart(4, "0") + "-0000-7000-8000-" + randomBytes(6).toString("hex"), requestId: randomUUID(), hookId: "42", guid: randomUUID(), event: "push", method: "POST", target: "/hook?x=1", headers: ["X-A", "1", "X-B", "é\"q"], body, bodyHash: hash("sha256", body, "hex"), targets, ...over } }
const loc = process.argv[2] === "pg" ? { kind: "postgres" as const, url: Redacted.make(process.env.PGURL!) } : { kind: "sqlite" as const, path: "/tmp/sqlstore/store.db" }
if (loc.kind === "sqlite") for (const s of ["", "-wal"]) fs.rmSync(loc.path + s, { force: true })
const at = (outcome: any) => ({ at: Date.now(), outcome, status: 200, latency: 1.5, error: "bad\0", answer: undefined })
await Effect.runPromise(Effect.gen(function*() {
  const s = yield* DeliveryStore
  const d1 = mk(), d2 = mk({ guid: undefined, event: undefined })
  console.log(yield* s.write({ deliveries: [d1, d2], settlements: [] }))
  console.log("again same id", yield* s.write({ deliveries: [d1], settlements: [] }))
  console.log("redelivery, leased", yield* s.write({ deliveries: [mk({ guid: d1.guid, body: d1.body, targets: targets.map(t => ({ ...t, held: false })) })], settlements: [] }))
  console.log("settle", yield* s.write({ deliveries: [], settlements: [{ id: d1.id, key: "http://a.example", attempt: at("delivered"), become: "delivered" }, { id: d1.id, key: "http://b.example", attempt: at("failed"), become: { retryIn: 5000 } }, { id: "nope", key: "x", attempt: at("failed"), become: "dead" }] }))
  console.log(JSON.stringify(yield* s.show(d1.guid!), null, 1))
  const r1 = mk({ guid: d1.guid, body: d1.body, headers: ["New", "1"] }), r2 = mk({ guid: d1.guid, body: d1.body })
  console.log("redeliver x2 in batch", yield* s.write({ deliveries: [r1, r2, mk()], settlements: [] }))
  console.log("due", yield* s.due(targets.map(t => t.key)))
  console.log("claim", yield* s.claim("http://c.example", 10, "oldest"), yield* s.claim("http://c.example", 10, "newest"))
  const l = yield* s.load(d1.id); console.log("load", l?.headers, l?.body.equals(d1.body), l?.receivedAt)
  console.log("backlogs", yield* s.backlogs, "usage", yield* s.usage)
  yield* s.renew; console.log("cancel", yield* s.cancel("http://b.example"))
  yield* s.release
  console.log("list", (yield* s.list({}, { limit: 2 })).next, (yield* s.list({ state: "cancelled", backend: "http://b.example" }, { limit: 2 })).deliveries.length, (yield* s.list({ state: "delivered", event: "push" }, { limit: 2 })).deliveries.length, (yield* s.list({ state: "pending" }, { limit: 9 })).deliveries.length)
  console.log("redeliver", yield* s.redeliver({ state: "cancelled" }, 1), yield* s.redeliver({ backend: "http://a.example" }, 10))
  console.log("put", yield* s.putBackend({ key: "k", url: "u", ttl: undefined }, 1), yield* s.putBackend({ key: "k", url: "u2", ttl: 1 }, 1), yield* s.putBackend({ key: "k2", url: "u", ttl: 1 }, 1), yield* s.backends)
  yield* Effect.sleep(10)
  console.log("expire", yield* s.expireBackends, yield* s.deleteBackend("k"))
  console.log("prune", yield* s.prune({ delivered: 1000, dead: 1000, maxAge: 1e9 }, 10))
  yield* Effect.sleep(20)
  console.log("prune", yield* s.prune({ delivered: 1e6, dead: 1e6, maxAge: 0 }, 10), yield* s.backlogs)
  console.log("prune", yield* s.prune({ delivered: 0, dead: 1e6, maxAge: 0 }, 10), (yield* s.list({}, { limit: 9 })).deliveries.map(d => d.hasBody))
  console.log("prune", yield* s.prune({ delivered: 0, dead: 0, maxAge: 0 }, 10), (yield* s.list({}, { limit: 9 })).deliveries.length)
  const big = mk({ body: randomBytes(25 * 1024 * 1024) }); const t = performance.now()
  yield* s.write({ deliveries: [big], settlements: [] }); const t2 = performance.now()
  const lb = yield* s.load(big.id); console.log("big", t2 - t, performance.now() - t2, lb?.body.equals(big.body), yield* s.usage)
}).pipe(Effect.provide(SqlDeliveryStore.layer(loc, { owner: "me-" + randomUUID() }))) as any)
