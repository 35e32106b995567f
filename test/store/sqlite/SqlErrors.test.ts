import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as SqliteClient from "../../../src/store/sqlite/Client.ts"
import { faults } from "../Faults.ts"

describe("a failure of SQLite", () => {
  it.effect("is the fault of what was to be written, or of the store", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-failure-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const path = join(directory, "test.db")
      const sql = yield* SqliteClient.make({ path, applicationId: 1, checkedBytes: 1, patience: 0, clock: () => 0 })
      yield* sql.open
      yield* sql`CREATE TABLE things (id integer PRIMARY KEY, name text NOT NULL CHECK (name <> ''), bytes blob)`
      yield* sql`INSERT INTO things VALUES (1, 'one', NULL)`
      const content = yield* faults(sql, [
        ["INSERT INTO things VALUES (1, 'again', NULL)", []],
        ["INSERT INTO things VALUES (2, NULL, NULL)", []],
        ["INSERT INTO things VALUES (3, '', NULL)", []],
        ["INSERT INTO things VALUES ('three', 'text for a number', NULL)", []],
        ["INSERT INTO things VALUES (4, 'too large', zeroblob(2000000000))", []],
        ["INSERT INTO things VALUES (5, ?, NULL)", [undefined]],
        ["INSERT INTO things VALUES (6, ?, NULL)", [new Date(0)]],
        ["INSERT INTO things VALUES (?, 'too large', NULL)", [2n ** 70n]]
      ])
      assert.deepStrictEqual(content, content.map(() => "content"))
      yield* sql`PRAGMA query_only = 1`
      const away = yield* faults(sql, [
        ["INSERT INTO things VALUES (7, 'seven', NULL)", []],
        ["INSERT INTO nowhere VALUES (8)", []]
      ])
      assert.deepStrictEqual(away, ["away", "away"])
    }))
})
