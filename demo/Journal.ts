/** The journal of all requests so far: what was sent, which backends it arrived at, and what the sender was told. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Delivery, Reply } from "./GitHub.ts"
import { type Arrival, digestOf, isDone, type Row } from "./Row.ts"
import { Screen } from "./Screen.ts"

/** The part of the program's log lines that the demo reads. */
export const LogLine = Schema.Struct({
  msg: Schema.String,
  port: Schema.optional(Schema.Int),
  version: Schema.optional(Schema.String),
  delivery: Schema.optional(Schema.String),
  event: Schema.optional(Schema.String),
  status: Schema.optional(Schema.Int),
  outcome: Schema.optional(Schema.String),
  reason: Schema.optional(Schema.String)
})
export type LogLine = typeof LogLine.Type

type Rows = ReadonlyArray<Row>
type Change = (row: Row) => Row

export class Journal extends Context.Service<Journal, {
  readonly rows: Effect.Effect<Rows>
  readonly sent: (delivery: Delivery) => Effect.Effect<void>
  readonly arrived: (guid: string | undefined, event: string, bytes: number, arrival: Arrival) => Effect.Effect<void>
  readonly answered: (delivery: Delivery, reply: Reply) => Effect.Effect<void>
  readonly logged: (line: LogLine) => Effect.Effect<void>
  /** Waits until the row of a GUID is as wanted. */
  readonly until: (guid: string, wanted: (row: Row) => boolean) => Effect.Effect<void>
}>()("sprayproxy/demo/Journal") {
  static readonly layer = Layer.effect(
    Journal,
    Effect.gen(function*() {
      const screen = yield* Screen
      const journal = yield* SubscriptionRef.make<Rows>([])
      // Shown before it is published, so that whoever waits for a row to be done finds it on the screen.
      const update = (f: (rows: Rows) => Rows) =>
        SubscriptionRef.updateEffect(journal, (before) => {
          const rows = f(before)
          return Effect.as(screen.show(rows), rows)
        })

      return Journal.of({
        rows: SubscriptionRef.get(journal),
        sent: (delivery) =>
          update((rows) => [...rows, {
            ...emptyRow(delivery.guid, delivery.label),
            bytes: delivery.body.length,
            sent: { delivery, digest: digestOf(delivery.body), at: performance.now() }
          }]),
        arrived: (guid, event, bytes, arrival) =>
          update(change(guid, event, (row) => ({ ...row, bytes, arrivals: [...row.arrivals, arrival] }))),
        answered: ({ guid, label }, reply) => update(change(guid, label, (row) => ({ ...row, reply }))),
        logged: ({ delivery, event = "(no event)", msg, outcome = "", reason, status = 0 }) => {
          if (msg !== "delivery answered" && msg !== "refused") return Effect.void
          return update(change(delivery, event, (row) => ({
            ...row,
            refusal: reason,
            // For a request of the demo's own, the reply is known from the reply itself.
            reply: row.sent === undefined ? { status, text: outcome } : row.reply
          })))
        },
        until: (guid, wanted) =>
          SubscriptionRef.changes(journal).pipe(
            Stream.filter((rows) => rows.some((row) => row.guid === guid && wanted(row))),
            Stream.runHead,
            Effect.asVoid
          )
      })
    })
  )
}

const emptyRow = (guid: string | undefined, label: string): Row => ({
  guid,
  label,
  bytes: undefined,
  arrivals: [],
  sent: undefined,
  reply: undefined,
  refusal: undefined
})

/**
 * Changes the latest row of a GUID. A row that is done is left alone, unless the demo sent it, because its log line
 * comes after its reply.
 */
const change = (guid: string | undefined, label: string, f: Change) => (rows: Rows): Rows => {
  const index = rows.findLastIndex((row) => row.guid === guid && (row.sent !== undefined || !isDone(row)))
  return index < 0 ? [...rows, f(emptyRow(guid, label))] : rows.with(index, f(rows[index]!))
}

export const decodeLogLine = (text: string): Option.Option<LogLine> =>
  Schema.decodeOption(Schema.fromJsonString(LogLine))(text)
