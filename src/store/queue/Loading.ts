/** Loads a stored delivery, to be sent again. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreSession } from "../Session.ts"
import type { StoredDelivery } from "../contract/Queue.ts"
import { StoreUnavailable } from "../contract/Unavailable.ts"

export const make = ({ dialect, sql }: StoreSession) => {
  const { largeBodies } = dialect
  const loadedBody = largeBodies === undefined
    ? sql`p.body`
    : sql`CASE WHEN d.body_length <= ${largeBodies.wholeBytes} THEN p.body END`

  return Effect.fnUntraced(function*(
    id: string
  ): Effect.fn.Return<StoredDelivery | undefined, SqlError | StoreUnavailable> {
    const [row] = yield* sql<
      LoadedRow
    >`SELECT d.id AS id, d.request_id AS request_id, d.hook_id AS hook_id, d.guid AS guid, d.event AS event,
        d.method AS method, d.target AS target, d.received_at AS received_at,
        d.body_length AS body_length, p.headers AS headers, ${loadedBody} AS body
      FROM deliveries d JOIN payloads p ON p.delivery_id = d.id WHERE d.id = ${id}`
    if (row === undefined) return undefined
    const headers = headersOf(row.headers)
    if (headers === undefined) return yield* spoilt("its headers can't be read")
    const body = row.body === null && largeBodies !== undefined
      ? yield* largeBodies.receive(row.id, row.body_length)
      : row.body
    if (body?.byteLength !== row.body_length) return yield* spoilt("its body is not whole")
    return {
      id: row.id,
      requestId: row.request_id,
      hookId: row.hook_id,
      guid: row.guid ?? undefined,
      event: row.event ?? undefined,
      method: row.method,
      target: row.target,
      headers,
      body: ownBuffer(body),
      receivedAt: row.received_at
    }
  })
}

interface LoadedRow {
  readonly id: string
  readonly request_id: string
  readonly hook_id: string
  readonly guid: string | null
  readonly event: string | null
  readonly method: string
  readonly target: string
  readonly received_at: number
  readonly body_length: number
  readonly headers: string
  readonly body: Uint8Array | null
}

const spoilt = (reason: string) => Effect.fail(new StoreUnavailable({ reason, fault: "content" }))

/** The parser's own error would show some of the text that it can't read. */
const headersOf = (text: string): ReadonlyArray<string> | undefined =>
  Result.getOrUndefined(Result.filterOrFail(
    Result.try((): unknown => JSON.parse(text)),
    (headers): headers is Array<string> => Array.isArray(headers) && headers.every((part) => typeof part === "string"),
    () => undefined
  ))

/** PostgreSQL's client hands out parts of a larger buffer, which would stay in memory as a whole. */
const ownBuffer = (bytes: Uint8Array): Buffer =>
  bytes.byteLength === bytes.buffer.byteLength
    ? Buffer.from(bytes.buffer, 0, bytes.byteLength)
    : Buffer.from(bytes)
