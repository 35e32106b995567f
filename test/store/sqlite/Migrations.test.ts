/** Stores that an earlier version of the program has left. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { schemaOf } from "../../../src/store/Migrations.ts"
import { newestSchema } from "../../../src/store/Schema.ts"
import * as SqliteClient from "../../../src/store/sqlite/Client.ts"
import { earlierSchemas, fill, use } from "../EarlierSchemas.ts"

describe("a store of an earlier schema", () => {
  it.live.each(earlierSchemas)(
    "in SQLite is brought up to date, with what is in it: %i",
    (schema) =>
      Effect.gen(function*() {
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "sprayproxy-schema-"))),
          (made) => Effect.sync(() => rmSync(made, { recursive: true }))
        )
        const path = join(directory, "deliveries.db")
        const open = Effect.tap(
          SqliteClient.make({ path, applicationId: 0x73707279, checkedBytes: 0, patience: 1_000, clock: Date.now }),
          (client) => client.open
        )
        const ids = yield* Effect.scoped(
          Effect.flatMap(open, (client) => Effect.provideService(fill(schema), SqlClient, client))
        )
        yield* Effect.scoped(use({ kind: "sqlite", path }, ids))
        yield* Effect.scoped(Effect.flatMap(open, (client) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(yield* client`PRAGMA user_version`, [{ user_version: newestSchema }])
            assert.strictEqual(yield* Effect.provideService(schemaOf, SqlClient, client), newestSchema)
          })))
      })
  )
})
