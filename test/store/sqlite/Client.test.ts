import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { LockTimeoutError, StatementTimeoutError, UniqueViolation } from "effect/sql/SqlError"
import { TestClock } from "effect/testing"
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isUnwritten } from "../../../src/store/SqlErrors.ts"
import * as SqliteClient from "../../../src/store/sqlite/Client.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-sqlite-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

const open = (path: string) =>
  SqliteClient.make({ path, applicationId: 0x74657374, checkedBytes: 1_000_000, patience: 0, clock: () => 1_000 }).pipe(
    Effect.tap((sql) => sql.open)
  )

const withTable = Effect.gen(function*() {
  const path = join(yield* directory, "test.db")
  const sql = yield* open(path)
  yield* sql`CREATE TABLE things (id integer PRIMARY KEY, name text, bytes blob)`
  return { path, sql }
})

const insert = (...rows: ReadonlyArray<readonly [number, string | null, Uint8Array | null]>) => ({
  text: "INSERT INTO things VALUES (?, ?, ?) RETURNING id",
  width: 3,
  values: rows.flat()
})

const rename = (...ids: ReadonlyArray<number>) => ({
  text: "UPDATE things SET name = 'b' WHERE id = ?",
  width: 1,
  values: ids,
  writesEach: true
})

describe("SQLite in a thread", () => {
  it.effect("keeps numbers, texts, bytes and nothing as they are", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const given = Buffer.from(Array.from({ length: 256 }, (_, at) => at))
      yield* sql`INSERT INTO things VALUES (${2 ** 53 - 1}, ${"Grüße"}, ${given.subarray(1, 200)})`
      yield* sql`INSERT INTO things VALUES (${1}, ${null}, ${new Uint8Array()})`
      const rows = yield* sql<
        { readonly id: number; readonly name: string | null; readonly bytes: Uint8Array }
      >`SELECT * FROM things
        ORDER BY id`
      assert.deepStrictEqual(rows.map(({ bytes, id, name }) => ({ id, name, bytes: [...bytes] })), [
        { id: 1, name: null, bytes: [] },
        { id: 2 ** 53 - 1, name: "Grüße", bytes: [...given.subarray(1, 200)] }
      ])
      assert.deepStrictEqual(yield* sql`SELECT name, id FROM things ORDER BY id`.values, [[null, 1], [
        "Grüße",
        2 ** 53 - 1
      ]])
    }))

  it.effect("refuses what has no place in it", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      assert.match(String((yield* Effect.flip(sql`SELECT ${undefined}`)).reason.cause), /cannot be bound/)
      assert.match(String((yield* Effect.flip(sql`SELECT 9007199254740993`)).reason.cause), /too large/)
      assert.match(String((yield* Effect.flip(sql`SELEKT`)).reason.cause), /syntax error/)
    }))

  it.effect("tells a violated constraint, and goes on", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      yield* sql`CREATE UNIQUE INDEX names ON things (name)`
      yield* sql`INSERT INTO things VALUES (1, 'a', NULL)`
      const error = yield* Effect.flip(sql`INSERT INTO things VALUES (2, 'a', NULL)`)
      assert.instanceOf(error.reason, UniqueViolation)
      assert.strictEqual((yield* sql`SELECT * FROM things`).length, 1)
    }))

  it.effect("runs a statement for each row, all of them or none", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const [inserted] = yield* sql.atomically([insert([1, "a", null], [2, "b", Buffer.from("2")])])
      assert.deepStrictEqual(inserted?.rows, [{ id: 1 }, { id: 2 }])
      const counted = { text: "SELECT count(*) AS n FROM things", width: 0, values: [] }
      const failed = yield* Effect.exit(sql.atomically([insert([3, "c", null], [1, "again", null]), counted]))
      assert.isTrue(Exit.isFailure(failed))
      // The last of them was not reached, and is known nevertheless.
      assert.deepStrictEqual((yield* sql.atomically([counted]))[0]?.rows, [{ n: 2 }])
    }))

  it.effect("keeps nothing of a transaction in which a run writes no row that has to", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      yield* sql.atomically([insert([1, "a", null], [2, "a", null])])
      const error = yield* Effect.flip(sql.atomically([insert([3, "a", null]), rename(1, 4, 2)]))
      assert.isTrue(isUnwritten(error))
      assert.deepStrictEqual(yield* sql`SELECT id, name FROM things`, [{ id: 1, name: "a" }, { id: 2, name: "a" }])
      yield* sql.atomically([rename(1, 2)])
      assert.deepStrictEqual(yield* sql`SELECT DISTINCT name FROM things`, [{ name: "b" }])
    }))

  it.effect("takes part in the transaction that is open", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const gone = yield* sql.atomically([insert([1, "a", null])]).pipe(
        Effect.andThen(Effect.fail("changed my mind")),
        sql.withTransaction,
        Effect.exit
      )
      assert.isTrue(Exit.isFailure(gone))
      assert.deepStrictEqual(yield* sql`SELECT * FROM things`, [])
      yield* sql.withTransaction(sql.atomically([insert([1, "a", null])]))
      assert.strictEqual((yield* sql`SELECT * FROM things`).length, 1)
    }))

  it.effect("rolls back a transaction that is interrupted, before anybody else's statement", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const begun = yield* Effect.forkChild(
        sql.withTransaction(Effect.andThen(sql`INSERT INTO things VALUES (1, 'a', NULL)`, Effect.never)),
        { startImmediately: true }
      )
      const waiting = yield* Effect.forkChild(sql`SELECT * FROM things`, { startImmediately: true })
      yield* Fiber.interrupt(begun)
      assert.deepStrictEqual(yield* Fiber.join(waiting), [])
      yield* sql.withTransaction(sql`INSERT INTO things VALUES (1, 'a', NULL)`)
    }))

  it.effect("says when it is full, and is used again when there is room", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const [pages] = yield* sql<{ readonly page_count: number }>`PRAGMA page_count`
      yield* sql.unsafe(`PRAGMA max_page_count = ${pages!.page_count + 10}`)
      const large = insert([1, "large", Buffer.alloc(1_000_000)])
      for (const write of [sql.atomically([large]), sql.withTransaction(sql.atomically([large]))]) {
        assert.match(String((yield* Effect.flip(write)).reason.cause), /full/)
      }
      yield* sql.unsafe("PRAGMA max_page_count = 10000")
      yield* sql.atomically([large])
      assert.strictEqual((yield* sql`SELECT * FROM things`).length, 1)
    }))

  it.effect("is there for nobody else while it is open, and whole when it is closed", () =>
    Effect.gen(function*() {
      const path = join(yield* directory, "test.db")
      yield* Effect.scoped(Effect.gen(function*() {
        const sql = yield* open(path)
        yield* sql`CREATE TABLE things (id integer)`
        assert.instanceOf((yield* Effect.flip(Effect.scoped(open(path)))).reason, LockTimeoutError)
      }))
      assert.strictEqual(readFileSync(path).readUInt32BE(68), 0x74657374)
      const sql = yield* open(path)
      assert.deepStrictEqual(yield* sql`SELECT * FROM things`, [])
    }))

  it.effect("fails while its file is damaged, and is opened anew, once a second at most, until it is whole", () =>
    Effect.gen(function*() {
      const { path, sql } = yield* withTable
      yield* sql`INSERT INTO things VALUES (1, 'a', NULL)`
      yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`
      yield* sql`PRAGMA shrink_memory`
      const whole = readFileSync(path)
      truncateSync(path, 4_096)
      assert.match(String((yield* Effect.flip(sql`SELECT * FROM things`)).reason.cause), /malformed|disk I\/O/)
      assert.match(String((yield* Effect.flip(sql`SELECT * FROM things`)).reason.cause), /not open/)
      assert.match(String((yield* Effect.flip(sql.open)).reason.cause), /malformed|corrupt/)
      writeFileSync(path, whole)
      assert.match(String((yield* Effect.flip(sql.open)).reason.cause), /malformed|corrupt/)
      yield* TestClock.adjust("1 second")
      yield* sql.open
      assert.strictEqual((yield* sql`SELECT * FROM things`).length, 1)
    }))

  it.effect("reads beside a transaction that is open, and sees what is committed", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      yield* sql`INSERT INTO things VALUES (1, 'a', NULL)`
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`INSERT INTO things VALUES (2, 'b', NULL)`
        assert.strictEqual((yield* sql.reading`SELECT * FROM things`).length, 1)
      }))
      assert.strictEqual((yield* sql.reading`SELECT * FROM things`).length, 2)
      assert.match(
        String((yield* Effect.flip(sql.reading`INSERT INTO things VALUES (3, 'c', NULL)`)).reason.cause),
        /readonly/
      )
    }))

  it.effect(
    "writes while a question goes on, and that question ends when its time is over",
    () =>
      Effect.gen(function*() {
        const { sql } = yield* withTable
        const endless = yield* Effect.forkChild(
          Effect.flip(sql.reading`WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
          SELECT count(*) FROM n WHERE store_in_time(x)`),
          { startImmediately: true }
        )
        for (let id = 1; id <= 20; id += 1) yield* sql`INSERT INTO things VALUES (${id}, 'a', NULL)`
        assert.isUndefined(endless.pollUnsafe())
        assert.instanceOf((yield* Fiber.join(endless)).reason, StatementTimeoutError)
        assert.strictEqual((yield* sql.reading`SELECT * FROM things`).length, 20)
      }),
    20_000
  )

  it.effect("refuses an answer that it has no memory for, and goes on", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const large = sql`WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000) SELECT x FROM n`
      assert.instanceOf((yield* Effect.flip(large)).reason, StatementTimeoutError)
      assert.strictEqual((yield* sql`SELECT * FROM things`).length, 0)
    }))

  it.effect("tells the time that its clock shows", () =>
    Effect.gen(function*() {
      const { sql } = yield* withTable
      const [row] = yield* sql`SELECT store_now() AS now, typeof(store_now()) AS type`
      assert.deepStrictEqual(row, { now: 1_000, type: "integer" })
    }))

  it.effect.each(["test.db", "test.db-wal"])(
    "notices when %s is removed, before anything more counts as written",
    (name) =>
      Effect.gen(function*() {
        const { path, sql } = yield* withTable
        yield* sql.atomically([insert([1, "a", null])])
        rmSync(join(path, "..", name))
        assert.match(String((yield* Effect.flip(sql.atomically([insert([2, "b", null])]))).reason.cause), /removed/)
        yield* sql.open
        // A log that is removed alone is still in the file when that is closed.
        const tables = yield* sql`SELECT name FROM sqlite_schema`
        assert.strictEqual(tables.length, name === "test.db" ? 0 : 1)
      })
  )
})
