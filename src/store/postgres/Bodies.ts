/**
 * Sends large bodies to PostgreSQL and back in parts. The client has each message in memory a second time, and beside
 * it a buffer of up to twice the message's size. A body of 25 MiB took up 57 MiB more, in either direction, which no
 * budget knew of.
 *
 * **Details**
 *
 * Parts are put together in the database, in the transaction that writes the delivery. Their table is not logged, and
 * everybody else sees it empty.
 */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { randomUUID } from "node:crypto"
import { StoredParts } from "../Dialect.ts"

/** The most bytes of a body that goes whole. A larger one goes in parts. */
export const wholeBytes = 2 * 1024 * 1024

/** The client's buffers double until a message fits. A message a little smaller than a power of two wastes nothing. */
const sentBytes = 1024 * 1024 - 4 * 1024

/**
 * Parts are few, because PostgreSQL unpacks a compressed body from its beginning for each. The rest of the message is
 * in the same buffer.
 */
const receivedBytes = 4 * 1024 * 1024 - 128 * 1024

/** Sends a body, in a transaction. */
export const send = Effect.fnUntraced(function*(
  sql: SqlClient,
  body: ReadonlyArray<Uint8Array>
): Effect.fn.Return<StoredParts, SqlError> {
  const parts = new StoredParts(randomUUID())
  let n = 0
  for (const bytes of gathered(body, sentBytes)) {
    yield* sql`INSERT INTO payload_parts (key, n, bytes) VALUES (${parts.key}, ${n}, ${bytes})`
    n += 1
  }
  return parts
})

/** Gathers chunks into as few as possible of at most `most` bytes, in their order. A larger chunk stands by itself. */
function* gathered(chunks: ReadonlyArray<Uint8Array>, most: number): Generator<Uint8Array> {
  let from = 0
  let length = 0
  for (const [at, chunk] of chunks.entries()) {
    if (at > from && length + chunk.byteLength > most) {
      yield Buffer.concat(chunks.slice(from, at), length)
      from = at
      length = 0
    }
    length += chunk.byteLength
  }
  yield Buffer.concat(chunks.slice(from), length)
}

/** Removes the parts, before the transaction ends. */
export const forget = (sql: SqlClient, parts: StoredParts) => sql`DELETE FROM payload_parts WHERE key = ${parts.key}`

/** Reads a body. Undefined: it is not there, or has another length. */
export const receive = Effect.fnUntraced(function*(
  sql: SqlClient,
  id: string,
  length: number
): Effect.fn.Return<Buffer | undefined, SqlError> {
  const body = Buffer.allocUnsafeSlow(length)
  for (let at = 0; at < length; at += receivedBytes) {
    const [part] = yield* sql<{ readonly bytes: Uint8Array; readonly whole: number }>`
      SELECT substr(body, ${at + 1}, ${receivedBytes}) AS bytes, octet_length(body) AS whole
      FROM payloads WHERE delivery_id = ${id}`
    if (part?.whole !== length) return undefined
    body.set(part.bytes, at)
  }
  return body
})
