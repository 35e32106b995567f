/** The JSON answers of `/deliveries`. The descriptions stand in the OpenAPI document too. */
import * as Schema from "effect/Schema"
import { recoveryStates } from "../store/contract/Recovery.ts"
import { rowStates } from "../store/contract/Row.ts"

export const Time = Schema.String.annotate({ description: "RFC 3339, UTC" })

const row = {
  url: Schema.String,
  state: Schema.String.annotate({ description: rowStates.join(", ") }),
  since: Time.annotate({
    description: "when the present delivering began: the arrival, or when it was last asked for again"
  }),
  tries: Schema.Finite,
  dueAt: Schema.NullOr(Time),
  underWay: Schema.Boolean,
  lastOutcome: Schema.NullOr(Schema.String),
  settledAt: Schema.NullOr(Time)
}

const Row = Schema.Struct(row).annotate({ identifier: "Row" })

const Attempt = Schema.Struct({
  at: Time.annotate({ description: "when it ended" }),
  outcome: Schema.String,
  status: Schema.NullOr(Schema.Finite),
  latency: Schema.Finite.annotate({ description: "seconds" }),
  answer: Schema.NullOr(Schema.String.annotate({ description: "the start of one that is not 2xx" })),
  error: Schema.NullOr(Schema.String)
}).annotate({ identifier: "Attempt" })

const Recovery = Schema.Struct({
  state: Schema.String.annotate({ description: recoveryStates.join(", ") }),
  failedAt: Time.annotate({ description: "when it first failed at GitHub, by GitHub's clock" }),
  requests: Schema.Finite.annotate({ description: "how often GitHub was asked for it" }),
  askedAt: Schema.NullOr(Time.annotate({ description: "the latest request" })),
  recoveredAt: Schema.NullOr(Time),
  late: Schema.NullOr(Schema.Finite).annotate({ description: "seconds from its failure to its arrival" }),
  reason: Schema.NullOr(Schema.String.annotate({ description: "why it was given up" }))
}).annotate({ identifier: "Recovery", description: "there if GitHub has been asked for the delivery, or was to be" })

const delivery = {
  id: Schema.String,
  guid: Schema.NullOr(Schema.String.annotate({ description: "X-GitHub-Delivery" })),
  event: Schema.NullOr(Schema.String.annotate({ description: "X-GitHub-Event" })),
  hookId: Schema.NullOr(Schema.String.annotate({ description: "X-GitHub-Hook-ID" })),
  requestId: Schema.String,
  receivedAt: Time,
  bodyLength: Schema.Finite.annotate({ description: "bytes" }),
  hasBody: Schema.Boolean.annotate({ description: "whether headers and body are still kept" }),
  recovery: Schema.optionalKey(Recovery)
}

const Listed = Schema.Struct({ ...delivery, backends: Schema.Array(Row) }).annotate({ identifier: "ListedDelivery" })

const Shown = Schema.Struct({
  ...delivery,
  method: Schema.NullOr(Schema.String),
  target: Schema.NullOr(Schema.String.annotate({ description: "the request target, without its query" })),
  headers: Schema.NullOr(Schema.Array(Schema.Tuple([Schema.String, Schema.String]))).annotate({
    description: "names and values in the order in which they go out; values that may be secrets are ***"
  }),
  signature: Schema.Literals(["valid", "no longer valid", "unchecked"]).annotate({
    description:
      "no longer valid: it matches none of the secrets of now, so a backend would take the delivery and drop it"
  }),
  body: Schema.optionalKey(Schema.String),
  bodyEncoding: Schema.optionalKey(Schema.Literals(["utf8", "base64"])),
  backends: Schema.Array(
    Schema.Struct({ ...row, attempts: Schema.Array(Attempt) }).annotate({ identifier: "AttemptedRow" })
  )
}).annotate({ identifier: "Delivery" })

export type ListedDelivery = typeof Listed.Type
export type ShownDelivery = typeof Shown.Type
export type Signature = ShownDelivery["signature"]

/** The answer of `GET /deliveries`. */
export const ListAnswer = Schema.Struct({
  deliveries: Schema.Array(Listed),
  next: Schema.NullOr(Schema.String).annotate({ description: "the cursor of the next page; null on the last one" })
}).annotate({ identifier: "Deliveries" })

/** The answer of `GET /deliveries/{guid}`. */
export const ShowAnswer = Schema.Struct({ deliveries: Schema.Array(Shown) }).annotate({ identifier: "ShownDeliveries" })

/** The answer of `POST /deliveries/{guid}/redeliver`. */
export const RedeliverAnswer = Schema.Struct({
  redelivered: Schema.Finite,
  remaining: Schema.optionalKey(Schema.Finite)
})
  .annotate({ identifier: "Redelivered" })

/** The answer of `POST /deliveries/redeliver`. */
export const RedeliverMatchingAnswer = Schema.Struct({
  redelivered: Schema.Finite,
  remaining: Schema.optionalKey(Schema.Finite.annotate({
    description:
      "absent where a cursor was given, for what matches is counted once, and where there are too many to count"
  })),
  next: Schema.NullOr(Schema.String).annotate({ description: "the cursor for the rest; null when there is none" }),
  matched: Schema.optionalKey(
    Schema.Struct({
      state: Schema.String,
      backend: Schema.optionalKey(Schema.String),
      event: Schema.optionalKey(Schema.String),
      since: Schema.optionalKey(Schema.String)
    }).annotate({ description: "what the filter was taken for" })
  )
}).annotate({ identifier: "RedeliveredMatching" })
