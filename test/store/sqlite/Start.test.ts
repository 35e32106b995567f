import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { tooNew } from "../../../src/store/Schema.ts"
import * as SqliteClient from "../../../src/store/sqlite/Client.ts"
import { delivery, expectKept, fillFirstSchema, refusal, started } from "../Starting.ts"

const sqlite = (path: string) => ({ kind: "sqlite", path }) as const

/** A store that was used and closed. */
const used = (path: string) =>
  Effect.scoped(
    Effect.flatMap(started(sqlite(path)), (store) =>
      store.write({ deliveries: Array.from({ length: 40 }, delivery), settlements: [] }))
  )

/** The files beside the lock, which stays. */
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
      assert.strictEqual(yield* untouched(path), tooNew(7))
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
      ["of a newer program", tooNew(7)]
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
