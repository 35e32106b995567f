import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as SqlDeliveryStore from "./src/SqlDeliveryStore.ts"
import { DeliveryStore, type NewDelivery } from "./src/DeliveryStore.ts"
import { startPostgres, query } from "./test/postgres.ts"
import { execSync } from "node:child_process"
import { randomBytes, randomUUID } from "node:crypto"
import * as fs from "node:fs"
let seq = 0
const mk = (n = 7000): NewDelivery => ({ id: "0199" + (seq++).toString(16).padStart(4, "0") + "-0000-7000-8000-" + randomBytes(6).toString("hex"), requestId: "r", hookId: "1", guid: randomUUID(), event: "push", method: "POST", target: "/", headers: [], body: randomBytes(n), bodyHash: randomUUID(), targets: [{ key: "k", url: "k", held: true }] })
const t0 = performance.now()
const log = (...a: any[]) => console.log(((performance.now() - t0) / 1000).toFixed(2), ...a)
const attempt = (name: string, e: Effect.Effect<any, any, any>) => Effect.suspend(() => { const t = performance.now(); return Effect.exit(e).pipe(Effect.map(x => log(name, (performance.now() - t).toFixed(0) + "ms", x._tag === "Success" ? "ok " + JSON.stringify(x.value)?.slice(0, 100) : JSON.stringify(x.cause.reasons.map((r: any) => r.error ? r.error._tag + ": " + r.error.reason : r._tag + String(r.defect)))))) })
const sqlite = Effect.gen(function*() {
  fs.mkdirSync("/tmp/sqlstore/tmpfs", { recursive: true }); execSync("mount -t tmpfs -o size=4m tmpfs /tmp/sqlstore/tmpfs")
  yield* Effect.gen(function*() {
    const s = yield* DeliveryStore
    for (let i = 0; i < 3; i++) yield* attempt("write 1MB", s.write({ deliveries: [mk(1_000_000)], settlements: [] }))
    for (let i = 0; i < 4; i++) yield* attempt("write 1MB", s.write({ deliveries: [mk(1_000_000)], settlements: [] }))
    yield* attempt("list", Effect.map(s.list({}, { limit: 10 }), p => p.deliveries.length))
    execSync("mount -o remount,size=64m /tmp/sqlstore/tmpfs")
    yield* attempt("write 1MB", s.write({ deliveries: [mk(1_000_000)], settlements: [] }))
    yield* attempt("list", Effect.map(s.list({}, { limit: 10 }), p => p.deliveries.length))
  }).pipe(Effect.provide(SqlDeliveryStore.layer({ kind: "sqlite", path: "/tmp/sqlstore/tmpfs/x.db" }, { owner: "o" })), Effect.ensuring(Effect.sync(() => execSync("umount /tmp/sqlstore/tmpfs"))))
})
const pg = Effect.gen(function*() {
  const server = yield* startPostgres; const url = yield* server.createDatabase
  log("pg up")
  yield* server.stop
  yield* Effect.gen(function*() {
    const s = yield* DeliveryStore
    log("layer built with PG down")
    yield* attempt("write down", s.write({ deliveries: [mk()], settlements: [] }))
    yield* server.start
    yield* attempt("write up", s.write({ deliveries: [mk()], settlements: [] }))
    yield* attempt("usage", s.usage)
    yield* server.kill
    yield* attempt("write killed", s.write({ deliveries: [mk()], settlements: [] }))
    yield* attempt("put killed", s.putBackend({ key: "a", url: "b", ttl: undefined }, 4))
    yield* server.start
    yield* attempt("write up", s.write({ deliveries: [mk()], settlements: [] }))
    // hang: lock table
    const locker = yield* Effect.forkChild(query(url, "BEGIN; LOCK TABLE delivery_rows; SELECT pg_sleep(8)").pipe(Effect.exit))
    const blocker = yield* Effect.forkChild(query(url, "DO $$ BEGIN LOCK TABLE delivery_rows IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep(8); END $$"))
    yield* Effect.sleep(300)
    yield* attempt("write blocked", s.write({ deliveries: [mk()], settlements: [] }))
    const f = yield* Effect.forkChild(s.write({ deliveries: [mk()], settlements: [] }))
    yield* Effect.sleep(100)
    yield* attempt("interrupt blocked write", Fiber.interrupt(f))
    const f2 = yield* Effect.forkChild(s.cancel("k"))
    yield* Effect.sleep(100)
    yield* attempt("interrupt blocked tx", Fiber.interrupt(f2))
    yield* Fiber.join(blocker)
    yield* attempt("write after", s.write({ deliveries: [mk()], settlements: [] }))
    yield* attempt("cancel after", s.cancel("k"))
    log("open tx:", yield* query(url, "select state, count(*)::int from pg_stat_activity where application_name='sprayproxy' group by 1"))
    // kill -STOP: black hole
    process.kill(server.pid()!, "SIGSTOP"); execSync(`pkill -STOP -P ${server.pid()}`)
    yield* attempt("write frozen", s.write({ deliveries: [mk()], settlements: [] }))
    yield* attempt("cancel frozen", s.cancel("k"))
    process.kill(server.pid()!, "SIGCONT"); execSync(`pkill -CONT -P ${server.pid()}`)
    yield* attempt("write thawed", s.write({ deliveries: [mk()], settlements: [] }))
    yield* attempt("write thawed", s.write({ deliveries: [mk()], settlements: [] }))
  }).pipe(Effect.provide(SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(url) }, { owner: "o" })))
  // two replicas
  const again = SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(yield* server.createDatabase) }, { owner: "o" })
  yield* attempt("4 at once", Effect.all(Array.from({ length: 4 }, () => Effect.exit(Effect.scoped(Effect.provide(Effect.asVoid(DeliveryStore), again, { local: true })))), { concurrency: 4 }).pipe(Effect.map(x => x.map(y => y._tag))))
  const bad = (u: string) => attempt("bad", Effect.provide(Effect.asVoid(DeliveryStore), SqlDeliveryStore.layer({ kind: "postgres", url: Redacted.make(u) }, { owner: "o" })))
  yield* bad(url.replace(/:[^:@]*@/, ":wrong@")); yield* bad(server.url("nope")); yield* bad("postgres://u:pw@127.0.0.1:1/x"); yield* bad("postgres://u:secret@[bad"); yield* bad("postgres://u:pw@no-such-host.invalid/x?sslmode=bogus")
  yield* query(url, `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET synchronous_commit = off`); yield* bad(url)
  yield* query(url, `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET synchronous_commit = local`); yield* query(url, "INSERT INTO sprayproxy_migrations (migration_id, name) VALUES (99, 'x')"); yield* bad(url)
})
await Effect.runPromise((process.argv[2] === "pg" ? Effect.scoped(pg) : sqlite) as any)
