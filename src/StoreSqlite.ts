/**
 * Opens the store's SQLite file, or says why it can't be ours.
 *
 * **Details**
 *
 * Whose file it is, and how new its schema, is read from its header before SQLite sees it, and what the log says of that and
 * whether it is whole by a connection that can't write: a file that is refused stays as it is, to the byte. https://www.sqlite.org/fileformat2.html#the_database_header
 *
 * **Gotchas**
 *
 * Time is taken from the system once, and then from the monotonic clock: setting the system's clock back changes nothing
 * until the next start, and what is due too late then is mended.
 */
import { Clock } from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { StoreUnusable } from "./DeliveryStore.ts"
import * as SqliteClient from "./SqliteClient.ts"
import * as StoreDialect from "./StoreDialect.ts"
import { reasonOf } from "./StoreFailure.ts"
import { migrate, schemaOf } from "./StoreMigrations.ts"
import { newestSchema, tooNew } from "./StoreSchema.ts"
import type { StoreDatabase } from "./StoreSession.ts"

/** "spry", at offset 68 of the file. */
const applicationId = 0x73707279

/** Larger files are not read from end to end at each start. */
const checkedBytes = 256 * 1024 * 1024

/** Milliseconds: the process before this one may be on its way out. */
const patience = 2_000

export const open = Effect.fnUntraced(
  function*(path: string): Effect.fn.Return<StoreDatabase, StoreUnusable, Scope.Scope> {
    const file = Path.resolve(path)
    yield* Effect.try({
      try: () => prepareFile(file),
      catch: (error) => error instanceof StoreUnusable ? error : new StoreUnusable({ reason: systemReason(error) })
    })
    const client = yield* Effect.mapError(
      SqliteClient.make({ path: file, applicationId, checkedBytes, patience }),
      (error) => new StoreUnusable({ reason: reasonOf(error) })
    )
    const clock = anchored(yield* Clock)
    yield* migrate.pipe(
      Effect.andThen(schemaOf),
      Effect.provideService(SqlClient, client),
      Effect.catchTags({
        MigrationError: () => unusable("its schema can't be brought up to date"),
        SqlError: (error) => unusable(reasonOf(error))
      }),
      Effect.flatMap((schema) => schema > newestSchema ? unusable(tooNew(schema)) : Effect.void)
    )
    // The log is emptied, so that the header tells the schema from now on.
    yield* client`PRAGMA wal_checkpoint(TRUNCATE)`.pipe(Effect.ignore)
    // Whoever owned a row is gone: the file is ours alone.
    yield* client`UPDATE delivery_rows SET owner = NULL, due_at = ${clock()}
    WHERE state = 'pending' AND owner IS NOT NULL`.pipe(
      Effect.catchTag("SqlError", (error) => unusable(reasonOf(error)))
    )
    return {
      dialect: StoreDialect.sqlite(client, clock),
      sql: client,
      reading: client,
      sqlite: { client, clock },
      ready: Effect.void
    }
  }
)

const unusable = (reason: string) => Effect.fail(new StoreUnusable({ reason }))

const anchored = (clock: Clock): () => number => {
  const wall = clock.currentTimeMillisUnsafe()
  const start = clock.monotonicTimeNanosUnsafe()
  return () => wall + Math.floor(Number(clock.monotonicTimeNanosUnsafe() - start) / 1_000_000)
}

/** Makes it, or looks at it and changes nothing but who may read it. */
const prepareFile = (file: string): void => {
  let descriptor: number
  try {
    // A pipe would be waited for.
    descriptor = Fs.openSync(file, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error
    // Nobody else may read what is in the deliveries.
    Fs.closeSync(Fs.openSync(file, "wx", 0o600))
    return
  }
  const header = Buffer.alloc(100)
  try {
    const status = Fs.fstatSync(descriptor)
    if (!status.isFile()) throw new StoreUnusable({ reason: "it is not a file" })
    if (status.size > 0) checkHeader(header.subarray(0, Fs.readSync(descriptor, header, 0, 100, 0)))
  } finally {
    Fs.closeSync(descriptor)
  }
  for (const name of [file, `${file}-wal`, `${file}-shm`]) closeToOthers(name)
}

const closeToOthers = (file: string): void => {
  const status = Fs.statSync(file, { throwIfNoEntry: false })
  if (status === undefined || (status.mode & 0o077) === 0) return
  try {
    Fs.chmodSync(file, 0o600)
  } catch {
    throw new StoreUnusable({ reason: "others may read or write it, and its permissions can't be changed: chmod 600" })
  }
}

const checkHeader = (header: Buffer): void => {
  const isDatabase = header.length === 100 && header.toString("latin1", 0, 16) === "SQLite format 3\0"
  const reason = !isDatabase
    ? "it is not a SQLite database"
    : header.readUInt32BE(68) !== applicationId
    ? "it is a database of something else"
    : header.readUInt32BE(60) > newestSchema
    ? tooNew(header.readUInt32BE(60))
    : undefined
  if (reason !== undefined) throw new StoreUnusable({ reason })
}

const systemReason = (error: unknown): string => {
  const code = (error as NodeJS.ErrnoException).code ?? "unknown"
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "its directory does not exist",
    ENOTDIR: "its directory is not a directory",
    EACCES: "its directory or file is not accessible to this user",
    EROFS: "its directory is read-only",
    EISDIR: "it is a directory",
    ENOSPC: "the disk is full"
  }
  return reasons[code] ?? `it can't be opened (${code})`
}
