import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { spawn } from "node:child_process"
import { randomBytes, randomUUID } from "node:crypto"
import { once } from "node:events"
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { DeliveryStore, type NewDelivery, StoreUnusable } from "../../src/store/DeliveryStore.ts"
import { steps } from "../../src/store/Migrations.ts"
import * as SqlDeliveryStore from "../../src/store/SqlDeliveryStore.ts"
import * as SqliteClient from "../../src/store/sqlite/Client.ts"
import { listen } from "../support/harness.ts"
import { pgBouncerUnavailable, startPgBouncer } from "../support/pgbouncer.ts"
import { type Postgres, postgresUnavailable, query, startPostgres } from "../support/postgres.ts"

const sqlite = (path: string) => ({ kind: "sqlite", path }) as const
const postgres = (url: string) => ({ kind: "postgres", url: Redacted.make(url) }) as const
const nameOf = (url: string) => new URL(url).pathname.slice(1)

const started = (location: Parameters<typeof SqlDeliveryStore.layer>[0]) =>
  Effect.map(Layer.build(SqlDeliveryStore.layer(location, { owner: randomUUID() })), Context.get(DeliveryStore))

const refusal = (location: Parameters<typeof SqlDeliveryStore.layer>[0]) =>
  Effect.scoped(started(location)).pipe(
    Effect.flip,
    Effect.map((error) => {
      assert.instanceOf(error, StoreUnusable)
      assert.notInclude(error.message, "\n")
      return error.reason
    })
  )

const delivery = (): NewDelivery => ({
  id: randomUUID(),
  requestId: "request",
  hookId: "1",
  guid: randomUUID(),
  event: "push",
  method: "POST",
  target: "/",
  headers: ["Host", "example.com"],
  body: [Buffer.from("{}")],
  bodyHash: "00",
  targets: [{ key: "http://a.example.com", url: "http://a.example.com", held: false }]
})

/** A store that was used and closed. */
const used = (path: string) =>
  Effect.scoped(
    Effect.flatMap(started(sqlite(path)), (store) =>
      store.write({ deliveries: Array.from({ length: 40 }, delivery), settlements: [] }))
  )

const firstSchema = Migrator.make({})({
  table: "sprayproxy_migrations",
  loader: Migrator.fromRecord({ "1_deliveries": steps["1_deliveries"] })
})

/** As the first release left it: with a backend, and a delivery that is to be sent to it. */
const fillFirstSchema = Effect.gen(function*() {
  const sql = yield* SqlClient
  yield* firstSchema
  yield* sql`INSERT INTO backends (key, url, registered_at, expires_at)
    VALUES ('http://a.example.com', 'http://a.example.com/', 1000, NULL), ('http://old.example.com', 'gone', 500, 600)`
  yield* sql`INSERT INTO deliveries VALUES
    ('1', 'guid', '1', '00', 'request', 'push', 'POST', '/', 1000, 2, 1, 0, 1000)`
  yield* sql`INSERT INTO payloads VALUES ('1', '["Host","example.com"]', ${Buffer.from("{}")})`
  yield* sql`INSERT INTO delivery_rows VALUES
    ('1', 'http://a.example.com', 'http://a.example.com/', 'pending', 1000, 1000, NULL, 3, 'failed', NULL)`
  yield* sql`INSERT INTO attempts VALUES ('1', 'http://a.example.com', 1000, 1, 'failed', 502, 12.5, NULL, NULL)`
})

const expectKept = Effect.fnUntraced(function*(store: DeliveryStore["Service"]) {
  const key = "http://a.example.com"
  assert.deepStrictEqual(yield* store.backends, [
    { key, url: "http://a.example.com/", registeredAt: 1_000, expiresAt: undefined, expiresIn: undefined }
  ])
  const [shown] = yield* store.show("guid")
  assert.deepInclude(shown?.rows[0], { key, state: "pending", tries: 3 })
  assert.lengthOf(shown?.attempts ?? [], 1)
  assert.deepStrictEqual((yield* store.claim(key, 10, "oldest")).map(({ id, tries }) => [id, tries]), [["1", 3]])
  assert.isTrue(yield* store.deleteBackend(key, 1))
  assert.deepStrictEqual(yield* store.backends, [])
})

/** What is there beside the lock, which stays. */
const filesIn = (path: string) => readdirSync(path).filter((name) => name !== "deliveries.db-lock")

describe("a store in a SQLite file", () => {
  const directory = Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-start-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )

  /** Why the file is refused; it stays as it was. */
  const untouched = Effect.fnUntraced(function*(path: string) {
    const before = readFileSync(path)
    const reason = yield* refusal(sqlite(path))
    assert.isTrue(readFileSync(path).equals(before))
    assert.deepStrictEqual(filesIn(join(path, "..")), ["deliveries.db"])
    return reason
  })

  it.effect("is made for the owner's eyes only, and found again", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
      yield* Effect.scoped(Effect.gen(function*() {
        const store = yield* started(sqlite(path))
        assert.strictEqual(statSync(`${path}-wal`).mode & 0o777, 0o600)
        assert.strictEqual((yield* store.list({}, { limit: 100 })).deliveries.length, 40)
      }))
    }))

  it.effect("gives back what the process before had under way", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      const store = yield* started(sqlite(path))
      assert.strictEqual((yield* store.claim("http://a.example.com", 100, "oldest")).length, 40)
    }))

  it.effect("is tightened where others could read it", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      chmodSync(path, 0o664)
      writeFileSync(`${path}-wal`, "", { mode: 0o644 })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* started(sqlite(path))
        assert.strictEqual(statSync(`${path}-wal`).mode & 0o777, 0o600)
      }))
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
    }))

  it.effect("may begin as an empty file", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      writeFileSync(path, "")
      yield* used(path)
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
    }))

  it.effect("needs its directory", () =>
    Effect.gen(function*() {
      const path = yield* directory
      assert.strictEqual(yield* refusal(sqlite(join(path, "no/deliveries.db"))), "its directory does not exist")
      mkdirSync(join(path, "deliveries.db"))
      assert.strictEqual(yield* refusal(sqlite(join(path, "deliveries.db"))), "it is not a file")
    }))

  it.effect("is nothing that is not a database", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      for (
        const content of [Buffer.from("SQLite"), Buffer.from("something else\n".repeat(1_000)), randomBytes(10_000)]
      ) {
        writeFileSync(path, content, { mode: 0o600 })
        assert.strictEqual(yield* untouched(path), "it is not a SQLite database")
      }
    }))

  it.effect("is no database of another program", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      const other = new DatabaseSync(path)
      other.exec(
        "PRAGMA journal_mode = WAL; CREATE TABLE deliveries (id text); INSERT INTO deliveries VALUES ('theirs')"
      )
      other.close()
      chmodSync(path, 0o644)
      assert.strictEqual(yield* untouched(path), "it is a database of something else")
      assert.strictEqual(statSync(path).mode & 0o777, 0o644)
    }))

  it.effect("goes on with what an earlier version has stored", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* TestClock.setTime(Date.now())
      const file = { path, applicationId: 0x73707279, checkedBytes: 0, patience: 0, clock: Date.now }
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* SqliteClient.make(file)
        yield* client.open
        yield* Effect.provideService(fillFirstSchema, SqlClient, client)
      }))
      yield* Effect.scoped(Effect.flatMap(started(sqlite(path)), expectKept))
    }))

  it.effect("is none of a newer program", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      const newer = new DatabaseSync(path)
      newer.exec("PRAGMA user_version = 7")
      newer.close()
      assert.strictEqual(yield* untouched(path), "its schema 7 is newer than this program, which knows 2")
    }))

  it.effect("is not corrupt", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      const whole = readFileSync(path)
      const damaged = Buffer.from(whole)
      randomBytes(8_000).copy(damaged, 2 * 4_096)
      for (const content of [damaged, whole.subarray(0, 4_096), whole.subarray(0, whole.length - 9_000)]) {
        writeFileSync(path, content)
        assert.strictEqual(yield* untouched(path), "it is corrupt")
      }
      writeFileSync(path, whole)
      yield* Effect.scoped(started(sqlite(path)))
    }))

  it.effect.each(
    [
      ["corrupt", "it is corrupt"],
      ["of a newer program", "its schema 7 is newer than this program, which knows 2"]
    ] as const
  )("is refused with all of its log when it is %s", ([what, reason]) =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      // As it lies there when its process was killed.
      const killed = new DatabaseSync(path)
      killed.exec("PRAGMA journal_mode = WAL; CREATE TABLE more AS SELECT * FROM payloads")
      if (what !== "corrupt") killed.exec("PRAGMA user_version = 7")
      const files = [path, `${path}-wal`].map((name) => [name, readFileSync(name)] as const)
      killed.close()
      for (const [name, content] of files) writeFileSync(name, content, { mode: 0o600 })
      if (what === "corrupt") {
        const [, content] = files[0]!
        content.fill(0xff, 8 * 4_096 + 100, 9 * 4_096)
        writeFileSync(path, content)
      }
      assert.strictEqual(yield* refusal(sqlite(path)), reason)
      for (const [name, content] of files) assert.isTrue(readFileSync(name).equals(content), name)
      assert.deepStrictEqual(filesIn(join(path, "..")), ["deliveries.db", "deliveries.db-wal"])
    }))

  it.effect("is used by one process at a time", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "deliveries.db")
      yield* used(path)
      const other = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const script = `const db = new (require("node:sqlite").DatabaseSync)(process.argv[1])
            db.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT")
            console.log("locked")
            process.stdin.resume()`
          const child = spawn(process.execPath, ["-e", script, path], { stdio: ["pipe", "pipe", "inherit"] })
          await once(child.stdout, "data")
          return child
        }),
        (child) =>
          Effect.promise(async () => {
            if (child.exitCode !== null || child.signalCode !== null) return
            child.kill("SIGKILL")
            await once(child, "exit")
          })
      )
      const before = readFileSync(path)
      assert.strictEqual(yield* refusal(sqlite(path)), "it is locked by another process")
      assert.isTrue(readFileSync(path).equals(before))
      other.kill("SIGKILL")
      yield* Effect.promise(() => once(other, "exit"))
      yield* Effect.scoped(started(sqlite(path)))
    }))
})

class Server extends Context.Service<Server, Postgres>()("sprayproxy/test/SqlStoreStart/Server") {}

const unavailable = postgresUnavailable()

describe.skipIf(unavailable !== undefined)(unavailable ?? "PostgreSQL", () => {
  layer(Layer.effect(Server, startPostgres), { excludeTestServices: true })("a store in PostgreSQL", ({ effect }) => {
    effect("gets its schema once, however many begin at once", () =>
      Effect.gen(function*() {
        const url = yield* (yield* Server).createDatabase
        const write = Effect.scoped(
          Effect.flatMap(started(postgres(url)), (store) => store.write({ deliveries: [delivery()], settlements: [] }))
        )
        yield* Effect.all(Array.from({ length: 5 }, () => write), { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* query(url, "SELECT count(*)::integer AS n FROM deliveries"), [{ n: 5 }])
      }))

    effect("goes on with what an earlier version has stored", () =>
      Effect.gen(function*() {
        const url = yield* (yield* Server).createDatabase
        yield* Effect.flatMap(
          PgClient.make({ url: Redacted.make(url), maxConnections: 1 }),
          (client) => Effect.provideService(fillFirstSchema, SqlClient, client)
        ).pipe(Effect.scoped, Effect.provide(Reactivity.layer))
        yield* Effect.scoped(Effect.flatMap(started(postgres(url)), expectKept))
      }))

    effect("has to mean what it confirms", () =>
      Effect.gen(function*() {
        const url = yield* (yield* Server).createDatabase
        yield* query(url, `ALTER DATABASE ${nameOf(url)} SET synchronous_commit = off`)
        assert.strictEqual(
          yield* refusal(postgres(url)),
          "its synchronous_commit is off: what it confirms could be lost"
        )
        assert.deepStrictEqual(yield* query(url, "SELECT to_regclass('deliveries')::text AS name"), [{ name: null }])
        yield* query(url, `ALTER DATABASE ${nameOf(url)} SET synchronous_commit = local`)
        yield* Effect.scoped(started(postgres(url)))
      }))

    effect.each(["LATIN1", "EUC_JP", "SQL_ASCII"])(
      "is none in %s, which lacks characters",
      (encoding) =>
        Effect.gen(function*() {
          const server = yield* Server
          const name = `of_${encoding.toLowerCase()}`
          yield* query(
            server.url("postgres"),
            `CREATE DATABASE ${name} ENCODING '${encoding}' LOCALE 'C' TEMPLATE template0`
          )
          const reason = `its encoding is ${encoding}: create it with ENCODING 'UTF8' TEMPLATE template0`
          assert.strictEqual(yield* refusal(postgres(server.url(name))), reason)
          const tables = yield* query(server.url(name), "SELECT to_regclass('deliveries')::text AS name")
          assert.deepStrictEqual(tables, [{ name: null }])
        })
    )

    effect("is none of a newer program", () =>
      Effect.gen(function*() {
        const url = yield* (yield* Server).createDatabase
        yield* Effect.scoped(started(postgres(url)))
        yield* query(url, "INSERT INTO sprayproxy_migrations (migration_id, name) VALUES (7, 'newer')")
        assert.strictEqual(yield* refusal(postgres(url)), "its schema 7 is newer than this program, which knows 2")
      }))

    effect("is none of another program", () =>
      Effect.gen(function*() {
        const url = yield* (yield* Server).createDatabase
        yield* query(url, "CREATE TABLE deliveries (id text)")
        assert.match(yield* refusal(postgres(url)), /^PostgreSQL refused with SQLSTATE 42P07$/)
        assert.deepStrictEqual(yield* query(url, "SELECT to_regclass('payloads')::text AS name"), [{ name: null }])
      }))

    effect("refuses whom it does not know, and nothing of that is told", () =>
      Effect.gen(function*() {
        const server = yield* Server
        const url = new URL(yield* server.createDatabase)
        const missing = server.url("missing")
        url.password = "s3cret"
        assert.strictEqual(yield* refusal(postgres(url.href)), "PostgreSQL refused the user or the password")
        assert.strictEqual(yield* refusal(postgres(missing)), "PostgreSQL has no such database")
        url.searchParams.set("sslmode", "s3cret")
        assert.strictEqual(yield* refusal(postgres(url.href)), "its URL can't be used")
      }))

    effect("is one host's", () =>
      Effect.gen(function*() {
        for (
          const url of [
            "postgres://me:a,b@one.test,two.test/x",
            "postgres://one.test:1,two.test:2/x",
            "postgres:///x?host=a,b"
          ]
        ) assert.strictEqual(yield* refusal(postgres(url)), "its URL may name one host only")
        const url = yield* (yield* Server).createDatabase
        yield* started(postgres(`${url}?application_name=a,b`))
      }))

    effect(
      "does not hold up the start when it is out of reach, and is used when it comes",
      () =>
        Effect.gen(function*() {
          const server = yield* Server
          const url = yield* server.createDatabase
          yield* server.stop
          const store = yield* started(postgres(url))
          const error = yield* Effect.flip(store.write({ deliveries: [delivery()], settlements: [] }))
          assert.strictEqual(error.reason, "PostgreSQL can't be reached (ECONNREFUSED)")
          yield* server.start
          yield* store.write({ deliveries: [delivery()], settlements: [] })
          assert.strictEqual((yield* store.list({}, { limit: 10 })).deliveries.length, 1)
        })
    )

    effect("does not hold up the start for long when nothing answers", () =>
      Effect.gen(function*() {
        const port = yield* listen(createServer(() => {}))
        const before = performance.now()
        const store = yield* started(postgres(`postgres://somebody@127.0.0.1:${port}/silent`))
        assert.isBelow(performance.now() - before, 15_000)
        assert.isDefined((yield* Effect.flip(store.backlogs)).reason)
      }))

    effect(
      "is used through a proxy that knows few parameters, and was away at the start",
      () =>
        Effect.gen(function*() {
          const server = yield* Server
          const url = new URL(yield* server.createDatabase)
          const target = Number(url.port)
          let isAway = true
          const proxy = createServer((client) => {
            if (isAway) return void client.destroy()
            client.once("data", (startup) => {
              // PgBouncer's words.
              const text = "SFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0"
              if (startup.includes("statement_timeout")) {
                const head = Buffer.from([0x45, 0, 0, 0, 4 + text.length])
                return void client.end(Buffer.concat([head, Buffer.from(text)]))
              }
              const upstream = connect(target, "127.0.0.1")
              upstream.on("error", () => client.destroy())
              upstream.write(startup)
              client.pipe(upstream).pipe(client)
            })
          })
          url.port = String(yield* listen(proxy))
          const store = yield* started(postgres(url.href))
          isAway = false
          yield* store.write({ deliveries: [delivery()], settlements: [] })
          assert.strictEqual((yield* store.list({}, { limit: 10 })).deliveries.length, 1)
        })
    )

    effect("is migrated for as long as that takes, and used when it is over", () =>
      Effect.gen(function*() {
        const url = yield* (yield* Server).createDatabase
        const other = yield* PgClient.make({ url: Redacted.make(url), maxConnections: 2 })
        yield* Effect.provideService(firstSchema, SqlClient, other)
        const writing = yield* Deferred.make<void>()
        const writer = yield* Effect.forkScoped(other.withTransaction(Effect.gen(function*() {
          yield* other`LOCK TABLE delivery_rows IN ROW EXCLUSIVE MODE`
          yield* Deferred.succeed(writing, undefined)
          return yield* Effect.never
        })))
        yield* Deferred.await(writing)
        const store = yield* started(postgres(url))
        assert.match((yield* Effect.flip(store.due([]))).reason, /^PostgreSQL('s lock was not| took too long)/)
        yield* Fiber.interrupt(writer)
        yield* Effect.retry(store.due([]), { schedule: Schedule.spaced(20), times: 500 })
        assert.deepStrictEqual(yield* store.list({}, { limit: 10 }), { deliveries: [], next: undefined })
      }).pipe(Effect.provide(Reactivity.layer)), 30_000)

    effect.skipIf(pgBouncerUnavailable() !== undefined)(
      "is none behind a PgBouncer that knows no transactions",
      () =>
        Effect.gen(function*() {
          const url = yield* startPgBouncer(yield* (yield* Server).createDatabase, { pool_mode: "statement" })
          assert.strictEqual(
            yield* refusal(postgres(url)),
            "it is a PgBouncer in statement mode, which has no transactions: set its pool_mode to transaction"
          )
        })
    )

    effect.each(
      [
        ["read-only", (role: string) => `ALTER ROLE ${role} SET default_transaction_read_only = on`],
        ["another's", (role: string) => `REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM ${role}`]
      ] as const
    )("takes no probe when it has become %s", ([, refuse]) =>
      Effect.gen(function*() {
        const url = new URL(yield* (yield* Server).createDatabase)
        const administrator = url.href
        const role = `role_${randomUUID().replaceAll("-", "")}`
        yield* query(administrator, `CREATE ROLE ${role} LOGIN PASSWORD 'word'`)
        yield* query(administrator, `ALTER DATABASE ${nameOf(administrator)} OWNER TO ${role}`)
        url.username = role
        url.password = "word"
        const store = yield* started(postgres(url.href))
        yield* store.probe
        yield* query(administrator, refuse(role))
        yield* query(administrator, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${role}'`)
        const refused = Effect.filterOrFail(Effect.flip(store.probe), ({ reason }) =>
          /is read-only|does not permit/.test(reason))
        const { fault } = yield* Effect.retry(refused, { schedule: Schedule.spaced(20), times: 100 })
        assert.strictEqual(fault, "away")
      }))

    effect("may stop and come back", () =>
      Effect.gen(function*() {
        const server = yield* Server
        const store = yield* started(postgres(yield* server.createDatabase))
        yield* store.write({ deliveries: [delivery()], settlements: [] })
        yield* server.stop
        const during = store.write({ deliveries: [delivery()], settlements: [] })
        for (const operation of [Effect.asVoid(during), Effect.asVoid(store.clearBackends(new Set()))]) {
          assert.match((yield* Effect.flip(operation)).reason, /^PostgreSQL can't be reached|^the database can't/)
        }
        yield* server.start
        yield* store.write({ deliveries: [delivery()], settlements: [] })
        assert.strictEqual((yield* store.list({}, { limit: 10 })).deliveries.length, 2)
      }))
  })
})
