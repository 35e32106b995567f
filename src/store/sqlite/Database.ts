/**
 * The store's SQLite file, which is opened at the start or as soon as it can be.
 *
 * **Details**
 *
 * - A disk that is full, read-only or failing does not end the start, and neither does a file or directory that this
 *   user may not use. Operations fail until the file can be opened. It is checked and gets its schema before the first
 *   operation that succeeds. The same holds for a file that fails or is removed while it is in use: it is opened again,
 *   or made again.
 * - A file that is damaged, locked, or of another or a newer program ends the start, and so does a missing directory.
 *   If that shows only later, it is logged, and the store stays away.
 * - The start does not take longer for a large store. Files beyond some size are not read from end to end. The rows
 *   that an earlier process had under way are then looked for in the thread that reads, beside the writes.
 *
 * **Gotchas**
 *
 * If a file is removed while it is in use, its content is lost: nothing is written to it any more.
 */
import { Clock } from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { SqlClient } from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Path from "node:path"
import { migrate, schemaOf } from "../Migrations.ts"
import * as Question from "../Question.ts"
import { newestSchema, tooNew } from "../Schema.ts"
import type { StoreDatabase } from "../Session.ts"
import { reasonOf } from "../SqlErrors.ts"
import { StoreUnusable } from "../contract/Unavailable.ts"
import * as SqliteClient from "./Client.ts"
import { type Stop, StoreClock } from "./Clock.ts"
import * as SqliteDialect from "./Dialect.ts"
import type { SqliteCause } from "./Thread.ts"

/** "spry", at offset 68 of the file. */
const applicationId = 0x73707279

/** Bytes. Reading so many takes about a tenth of a second. */
const smallBytes = 32 * 1024 * 1024

/** Milliseconds. The process before this one may be on its way out. */
const patience = 2_000

/** The longest wait of the start, because nothing listens meanwhile. */
const longestStart = "3 seconds"

/** In a small store, rows that were under way are due before anything else happens. */
const longestRelease = "250 millis"

/** The most rows that one transaction gives back. */
const releasedAtOnce = 1_000

/** Milliseconds after which the clock is noted along with a write. If nothing is written, pruning notes it. */
const notedEach = 5_000

const note = {
  text: "UPDATE store_clock SET seen_at = store_now()",
  width: 0,
  values: []
}

export const open = Effect.fnUntraced(
  function*(path: string, owner: string): Effect.fn.Return<StoreDatabase, StoreUnusable, Scope.Scope> {
    const scope = yield* Effect.scope
    const clock = new StoreClock(yield* Clock)
    let notedAt = -Infinity
    let isNoted = true
    const client = yield* SqliteClient.make({
      path: Path.resolve(path),
      applicationId,
      checkedBytes: smallBytes,
      patience,
      clock: () => clock.now(),
      beside: () => {
        isNoted = false
        // A stop is recognised by the time that was seen before it.
        if (checked === undefined || clock.unsaved !== undefined || clock.now() - notedAt < notedEach) return []
        notedAt = clock.now()
        return [note]
      }
    })
    const noteNow = Effect.suspend(() => {
      notedAt = clock.now()
      return Effect.tap(client.atomically([note]), Effect.sync(() => isNoted = true))
    })
    let checked: SqliteClient.Opening | undefined
    let last: SqliteClient.Opening | undefined
    let checking: Fiber.Fiber<void, SqlError | StoreUnusable> | undefined
    let tidying: Fiber.Fiber<void, SqlError> | undefined
    const warned = new Set<string>()
    let isStarted = false
    let told = ""

    /** A step that fails now, on a full disk for example, is tried again on the next opening. */
    const tidy = Effect.gen(function*() {
      const stop = clock.unsaved
      if (stop !== undefined) {
        yield* saveStop(client, stop)
        clock.saved()
      }
      yield* releaseOthers(client, owner)
    }).pipe(Effect.retry(Schedule.spaced("5 seconds")))

    const check = Effect.gen(function*() {
      const opening = yield* client.open
      if (checked === opening) return
      if (last !== opening) {
        const failure = last?.failure()
        // The first to meet the failure may have been an operation that does not log it.
        if (failure !== undefined) yield* Effect.logError(`the store was opened anew: ${reasonOf(failure)}`)
        // A file that can only be read is opened again each second, and its warnings are logged once.
        yield* Effect.forEach(
          opening.warnings.filter((warning) => !warned.has(warning)),
          (warning) => Effect.logWarning(warning)
        )
        for (const warning of opening.warnings) warned.add(warning)
        last = opening
      }
      yield* Effect.provideService(brought, SqlClient, client).pipe(
        Effect.andThen(resume(client, clock)),
        Effect.catchTag("StoreUnavailable", ({ reason }) => unusable(reason))
      )
      if (tidying === undefined || tidying.pollUnsafe() !== undefined) tidying = yield* Effect.forkIn(tidy, scope)
      yield* Fiber.join(tidying).pipe(Effect.timeoutOption(longestRelease), Effect.ignore)
      checked = opening
    }).pipe(
      Effect.tapError((error) => {
        const reason = wordsOf(error)
        if (!isStarted || isPassing(error) || reason === told) return Effect.void
        told = reason
        return Effect.logError(`the store can't be used: ${reason}`)
      })
    )

    yield* Effect.addFinalizer(() => isNoted || clock.unsaved !== undefined ? Effect.void : Effect.ignore(noteNow))

    // The check has a fiber of its own. A migration goes on when those who wait for it have given up.
    const gate = Semaphore.makeUnsafe(1)
    const joined = gate.withPermit(Effect.suspend(() =>
      checking !== undefined && checking.pollUnsafe() === undefined
        ? Effect.succeed(checking)
        : Effect.tap(Effect.forkIn(check, scope), (fiber) => Effect.sync(() => checking = fiber))
    ))
    const ready = Effect.suspend(() =>
      checked !== undefined && !checked.isOver() ? Effect.void : Effect.flatMap(joined, Fiber.join)
    )

    yield* ready.pipe(
      Effect.catch((error) =>
        isPassing(error) ? Effect.void : Effect.fail(new StoreUnusable({ reason: wordsOf(error) }))
      ),
      Effect.timeoutOption(longestStart)
    )
    isStarted = true
    return {
      dialect: SqliteDialect.make(client, clock),
      sql: client,
      reading: client.reading,
      ready
    }
  }
)

const isPassing = (error: SqlError | StoreUnusable): boolean =>
  isSqlError(error) && (error.reason.cause as Partial<SqliteCause> | undefined)?.isPassing !== false

const wordsOf = (error: SqlError | StoreUnusable): string => isSqlError(error) ? reasonOf(error) : error.reason

const unusable = (reason: string) => Effect.fail(new StoreUnusable({ reason }))

/** Brings the file to the schema that this program knows. */
const brought = Effect.gen(function*() {
  const sql = yield* SqlClient
  const steps = yield* migrate.pipe(
    Effect.catchTag(
      "MigrationError",
      ({ cause }) =>
        Effect.fail(isSqlError(cause) ? cause : new StoreUnusable({ reason: "its schema can't be brought up to date" }))
    )
  )
  const schema = yield* schemaOf
  if (schema > newestSchema) return yield* unusable(tooNew(schema))
  // Empties the log, so that the header tells the schema from now on.
  if (steps.length > 0) yield* Effect.ignore(sql`PRAGMA wal_checkpoint(TRUNCATE)`)
})

/** The clock goes on from the last time that the file has seen. */
const resume = Effect.fnUntraced(function*(sql: SqliteClient.SqliteClient, clock: StoreClock) {
  const { seen_at } = yield* seenOf(sql`SELECT seen_at FROM store_clock`)
  const stops = yield* stopsOf(sql`SELECT at, length FROM store_stops ORDER BY at DESC`)
  clock.resume(seen_at === 0 ? undefined : seen_at, stops)
})

const seenOf = Question.rowOf(Schema.Struct({ seen_at: Schema.Finite }))
const stopsOf = Question.rowsOf(Schema.Struct({ at: Schema.Finite, length: Schema.Finite }))

/** Saves a stop together with the changes that it makes. */
const saveStop = (sql: SqliteClient.SqliteClient, { at, length }: Stop) =>
  sql.withTransaction(Effect.gen(function*() {
    yield* sql`INSERT INTO store_stops (at, length) VALUES (${at}, ${length})`
    yield* sql`UPDATE backends SET expires_at = expires_at + ${length} WHERE expires_at > ${at}`
    yield* sql`UPDATE store_clock SET seen_at = store_now()`
  }))

/** Gives back the rows of earlier processes. They are gone, because the file is ours alone, so their rows are due. */
const releaseOthers = Effect.fnUntraced(function*(sql: SqliteClient.SqliteClient, owner: string) {
  const [pages] = yield* sql<{ readonly bytes: number }>`SELECT page_count * page_size AS bytes
    FROM pragma_page_count(), pragma_page_size()`
  // Starting one more thread would be the longest part of the start.
  const reading = pages!.bytes > smallBytes ? sql.reading : sql
  while (true) {
    const rows = yield* reading<{ readonly id: string; readonly key: string }>`
      SELECT delivery_id AS id, backend_key AS key FROM delivery_rows INDEXED BY delivery_rows_pending
      WHERE state = 'pending' AND owner IS NOT NULL AND owner <> ${owner} LIMIT ${releasedAtOnce}`
    if (rows.length === 0) return
    const names = JSON.stringify(rows.map(({ id, key }) => [id, key]))
    yield* sql`UPDATE delivery_rows SET owner = NULL, due_at = store_now()
      WHERE (delivery_id, backend_key) IN (SELECT value ->> 0, value ->> 1 FROM json_each(${names}))
        AND state = 'pending' AND owner <> ${owner}`
  }
})
