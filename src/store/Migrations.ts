/**
 * The store's schema, as the steps that lead to it. They go forward only: a store that is ahead of this program is not
 * touched.
 *
 * **Details**
 *
 * - `deliveries` is slim, so that looking through it is cheap. Headers and body are in `payloads`, and are removed
 *   first.
 * - `stage` and `stage_at` say when pruning looks at a delivery. 0: some rows were open, and it is looked at again at
 *   `stage_at`. 1: all were settled at `stage_at`. 2: the same, with a dead row. 3: only its record is left.
 * - While somebody owns a row, its `due_at` is the end of the lease.
 * - A row that its first attempt delivered keeps that attempt in its own columns, `attempt_n` and those beside it. All
 *   other attempts are in `attempts`. Rows that an earlier release has settled have all of theirs there.
 * - Most rows are delivered, and few end badly. Only the latter have an index.
 * - A backend whose time is over stays, and is `cleared` once no row of it is open. `changed_at` recognises a change
 *   that comes late.
 * - `recoveries`, `fallbacks` and `recovery_progress` are empty, and never looked at, unless recovery is on. Ids of
 *   GitHub's attempts are texts, because they are larger than a number holds.
 * - Ids sort by the clocks of the processes that made them, and `received_at` is the store's clock. No bound of one
 *   follows from the other.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Migrator from "effect/sql/Migrator"
import { SqlClient } from "effect/sql/SqlClient"
import * as Question from "./Question.ts"
import { isRareEvent } from "./operator/RareEvents.ts"

const columnsOf = (sql: SqlClient) =>
  sql.onDialectOrElse({
    // Compared byte by byte, as SQLite does it, whatever the database's language.
    pg: () => ({
      text: sql.literal("text COLLATE \"C\""),
      bytes: sql.literal("bytea"),
      clustered: sql.literal("")
    }),
    orElse: () => ({
      text: sql.literal("text"),
      bytes: sql.literal("blob"),
      clustered: sql.literal("WITHOUT ROWID")
    })
  })

/** The steps in the order of their numbers. A released step is never changed. */
export const steps = {
  "1_deliveries": Effect.gen(function*() {
    const sql = yield* SqlClient
    const { bytes, clustered, text } = columnsOf(sql)
    yield* sql`CREATE TABLE deliveries (
      id ${text} NOT NULL PRIMARY KEY,
      guid ${text},
      hook_id ${text} NOT NULL,
      body_hash ${text} NOT NULL,
      request_id ${text} NOT NULL,
      event ${text},
      method ${text} NOT NULL,
      target ${text} NOT NULL,
      received_at bigint NOT NULL,
      body_length bigint NOT NULL,
      has_payload smallint NOT NULL,
      stage smallint NOT NULL,
      stage_at bigint NOT NULL
    ) ${clustered}`
    // Deliveries without a GUID are all different, because no NULL equals another.
    yield* sql`CREATE UNIQUE INDEX deliveries_fingerprint ON deliveries (guid, hook_id, body_hash)`
    yield* sql`CREATE INDEX deliveries_stage ON deliveries (stage, stage_at)`
    yield* sql`CREATE TABLE payloads (
      delivery_id ${text} NOT NULL PRIMARY KEY,
      headers ${text} NOT NULL,
      body ${bytes} NOT NULL
    )`
    yield* sql`CREATE TABLE delivery_rows (
      delivery_id ${text} NOT NULL,
      backend_key ${text} NOT NULL,
      backend_url ${text} NOT NULL,
      state ${text} NOT NULL,
      since bigint NOT NULL,
      due_at bigint NOT NULL,
      owner ${text},
      tries integer NOT NULL,
      last_outcome ${text},
      settled_at bigint,
      PRIMARY KEY (delivery_id, backend_key)
    ) ${clustered}`
    yield* sql`CREATE INDEX delivery_rows_pending ON delivery_rows (backend_key, due_at, delivery_id, since, owner)
      WHERE state = 'pending'`
    yield* sql`CREATE INDEX delivery_rows_failed ON delivery_rows (state, backend_key, delivery_id)
      WHERE state IN ('rejected', 'dead', 'cancelled')`
    yield* sql`CREATE TABLE attempts (
      delivery_id ${text} NOT NULL,
      backend_key ${text} NOT NULL,
      at bigint NOT NULL,
      n bigint NOT NULL,
      outcome ${text} NOT NULL,
      status integer,
      latency double precision NOT NULL,
      error ${text},
      answer ${text},
      PRIMARY KEY (delivery_id, backend_key, at, n)
    ) ${clustered}`
    yield* sql`CREATE TABLE backends (
      key ${text} NOT NULL PRIMARY KEY,
      url ${text} NOT NULL,
      registered_at bigint NOT NULL,
      expires_at bigint
    )`
    yield* markFile(1)
  }),
  "2_hardening": Effect.gen(function*() {
    const sql = yield* SqlClient
    // An index of millions of rows takes its time, and others may still be writing.
    yield* sql.onDialectOrElse({
      pg: () => sql`SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)`,
      orElse: () => Effect.void
    })
    yield* sql`CREATE INDEX deliveries_event ON deliveries (event, id) WHERE ${sql.literal(isRareEvent)}`
    yield* sql`CREATE INDEX deliveries_received ON deliveries (received_at, id)`
    // By id, not by backend first. Each index of rows costs each delivery something, even if the row is not in it.
    yield* sql`DROP INDEX delivery_rows_failed`
    yield* sql`CREATE INDEX delivery_rows_failed_by_id ON delivery_rows (state, delivery_id, backend_key)
      WHERE state IN ('rejected', 'dead', 'cancelled')`
    yield* sql`CREATE INDEX delivery_rows_open ON delivery_rows (backend_key, since) WHERE state = 'pending'`
    yield* sql`ALTER TABLE backends ADD COLUMN changed_at bigint NOT NULL DEFAULT 0`
    yield* sql`ALTER TABLE backends ADD COLUMN cleared smallint NOT NULL DEFAULT 0`
    yield* sql`UPDATE backends SET changed_at = registered_at`
    yield* sql`CREATE INDEX backends_open ON backends (key) WHERE cleared = 0`
    // The latest arrivals. Most rows are never in it, because the process that wrote them delivers them.
    yield* sql`CREATE INDEX delivery_rows_waiting ON delivery_rows (backend_key, delivery_id, due_at)
      WHERE state = 'pending' AND owner IS NULL`
    // One row: the latest time that the store has seen. By it a clock that was set back is noticed.
    yield* sql`CREATE TABLE store_clock (seen_at bigint NOT NULL)`
    yield* sql`INSERT INTO store_clock (seen_at) VALUES (0)`
    const bytes = sql.literal(sql.onDialectOrElse({ pg: () => "bytea", orElse: () => "blob" }))
    // The stops of a SQLite store, which `StoreClock` explains.
    yield* sql.onDialectOrElse({
      pg: () => Effect.void,
      orElse: () => sql`CREATE TABLE store_stops (at bigint NOT NULL PRIMARY KEY, length bigint NOT NULL) WITHOUT ROWID`
    })
    // One row too. It is written to find out whether the store takes writes.
    yield* sql`CREATE TABLE probes (id smallint NOT NULL PRIMARY KEY, filling ${bytes} NOT NULL)`
    yield* sql.onDialectOrElse({
      pg: () =>
        Effect.andThen(
          sql`CREATE UNLOGGED TABLE payload_parts (
            key text NOT NULL,
            n integer NOT NULL,
            bytes bytea NOT NULL,
            PRIMARY KEY (key, n)
          )`,
          // The parts are compressed when they are put together.
          sql`ALTER TABLE payload_parts ALTER COLUMN bytes SET STORAGE EXTERNAL`
        ),
      orElse: () => Effect.void
    })
    yield* markFile(2)
  }),
  "3_attempts_in_rows": Effect.gen(function*() {
    const sql = yield* SqlClient
    // This step takes no time, but waits for whoever is writing.
    yield* sql.onDialectOrElse({
      pg: () => sql`SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)`,
      orElse: () => Effect.void
    })
    for (const column of ["at bigint", "n bigint", "status integer", "latency double precision"]) {
      yield* sql`ALTER TABLE delivery_rows ADD COLUMN ${sql.literal(`attempt_${column}`)}`
    }
    yield* markFile(3)
  }),
  "4_recovery": Effect.gen(function*() {
    const sql = yield* SqlClient
    const { clustered, text } = columnsOf(sql)
    yield* sql`CREATE TABLE recoveries (
      guid ${text} NOT NULL PRIMARY KEY,
      event ${text} NOT NULL,
      attempt_id ${text} NOT NULL,
      failed_at bigint NOT NULL,
      state ${text} NOT NULL,
      reason ${text},
      asks integer NOT NULL,
      due_at bigint NOT NULL,
      asked_at bigint,
      ended_at bigint,
      priority smallint NOT NULL,
      run ${text}
    ) ${clustered}`
    yield* sql`CREATE INDEX recoveries_missing ON recoveries (priority, failed_at) WHERE state IN ('wanted', 'asked')`
    yield* sql`CREATE INDEX recoveries_ended ON recoveries (ended_at) WHERE ended_at IS NOT NULL`
    yield* sql`CREATE TABLE fallbacks (
      guid ${text} NOT NULL,
      hook_id ${text} NOT NULL,
      body_hash ${text} NOT NULL,
      ends ${text} NOT NULL,
      is_complete smallint NOT NULL,
      received_at bigint NOT NULL,
      kept_at bigint NOT NULL,
      PRIMARY KEY (guid, hook_id, body_hash)
    ) ${clustered}`
    yield* sql`CREATE INDEX fallbacks_kept ON fallbacks (kept_at)`
    // One row, from the first start with recovery on.
    yield* sql`CREATE TABLE recovery_progress (
      id smallint NOT NULL PRIMARY KEY,
      started_at bigint NOT NULL,
      hook_id ${text},
      failures_scanned_to bigint,
      failures_completed_at bigint,
      full_began_at bigint,
      full_scanned_to bigint,
      full_completed_at bigint,
      owner ${text},
      lease_until bigint
    )`
    yield* markFile(4)
  }),
  "5_filters_and_ends": Effect.gen(function*() {
    const sql = yield* SqlClient
    for (const column of ["repositories text", "events text", "failing_since bigint"]) {
      yield* sql`ALTER TABLE backends ADD COLUMN ${sql.literal(column)}`
    }
    yield* markFile(5)
  })
}

/** Brings the schema up to date. Several processes may start at the same time. */
export const migrate = Migrator.make({})({ table: "sprayproxy_migrations", loader: Migrator.fromRecord(steps) })

/** SQLite keeps the schema in the file's header, where it can be read before the file is opened. */
const markFile = Effect.fnUntraced(function*(schema: number) {
  const sql = yield* SqlClient
  yield* sql.onDialectOrElse({
    pg: () => Effect.void,
    orElse: () => sql`PRAGMA user_version = ${sql.literal(String(schema))}`
  })
})

const newestOf = Question.rowOf(Schema.Struct({ newest: Schema.NullOr(Schema.Finite) }))

/** The schema that the store has; 0: none yet. */
export const schemaOf = Effect.gen(function*() {
  const sql = yield* SqlClient
  const { newest } = yield* newestOf(sql`SELECT max(migration_id) AS newest FROM sprayproxy_migrations`)
  return newest ?? 0
})
