/** Backends as an operator sees them: the JSON of `GET /backends`. Times are RFC 3339 in UTC. */
import * as Schema from "effect/Schema"
import { isoTime } from "../domain/Time.ts"
import type { Registration } from "./Registry.ts"

const Registered = Schema.Struct({
  url: Schema.String,
  source: Schema.Literals(["static", "dynamic"]),
  /** For a static backend, the start of the process. */
  registeredAt: Schema.String,
  /** Null if it never expires. */
  expiresAt: Schema.NullOr(Schema.String),
  /** Patterns. Null: deliveries of all repositories. */
  repositories: Schema.NullOr(Schema.Array(Schema.String)),
  /** Null: all events. */
  events: Schema.NullOr(Schema.Array(Schema.String)),
  lastOutcome: Schema.NullOr(Schema.String),
  lastOutcomeAt: Schema.NullOr(Schema.String)
}).annotate({ identifier: "Backend" })

/** The JSON answer of `GET /backends`. */
export const BackendsAnswer = Schema.Array(Registered)

export const backendsAnswer = (registrations: ReadonlyArray<Registration>): typeof BackendsAnswer.Type =>
  registrations.map(({ backend, expiresAt, filter, lastOutcome, lastOutcomeAt, registeredAt }) => ({
    url: backend.url,
    source: backend.source,
    registeredAt: isoTime(registeredAt),
    expiresAt: expiresAt === undefined ? null : isoTime(expiresAt),
    repositories: listed(filter?.repositories),
    events: listed(filter?.events),
    lastOutcome: lastOutcome ?? null,
    lastOutcomeAt: lastOutcomeAt === undefined ? null : isoTime(lastOutcomeAt)
  }))

const listed = (values: ReadonlySet<string> | undefined) => values === undefined ? null : [...values]
