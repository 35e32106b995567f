/**
 * The parameters by which an operator chooses deliveries, in a query or in JSON, and the line that refuses a bad one.
 *
 * **Details**
 *
 * An unknown parameter is refused, because a filter with a misspelt name would match more than was meant.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Backend from "../domain/Backend.ts"
import { printable } from "../domain/Text.ts"
import { isoTime } from "../domain/Time.ts"
import * as GoDuration from "../settings/GoDuration.ts"
import type { RowName } from "../store/contract/Operator.ts"
import { rowStates } from "../store/contract/Row.ts"
import { highestLimit, redeliveredState } from "./Defaults.ts"

/** The words of a refusal. They stand in the OpenAPI document too. */
const allowed = {
  state: `a state is ${rowStates.join(", ")}`,
  backend: "a backend is a url like https://pac.example.com",
  event: "an event is a name like push",
  since: "since is a time like 2026-01-02T03:04:05Z, or a duration back from now like 24h",
  guid: "a guid is the value of X-GitHub-Delivery",
  limit: `a limit is a whole number from 1 to ${highestLimit}`,
  cursor: "a cursor is the next of another answer",
  body: "body is true or false",
  dryRun: "dryRun is true or false",
  run: "a run is the run of a report"
}

type Name = keyof typeof allowed

/**
 * When a delivery was received: at this Unix time in milliseconds or later, or at most so many milliseconds ago by the
 * store's clock.
 */
const Received = Schema.Union([Schema.Struct({ since: Schema.Finite }), Schema.Struct({ age: Schema.Finite })])
export type Received = typeof Received.Type

/** A parameter whose text stands for something else. */
const textFor = <A>(
  name: Name,
  meaning: Schema.Codec<A>,
  decode: (text: string) => Option.Option<A>,
  encode: (value: A) => string
) =>
  Schema.String.annotate({ description: allowed[name] }).pipe(Schema.decodeTo(
    meaning,
    SchemaTransformation.transformEffect({
      decode: (text: string) =>
        Effect.mapError(
          Effect.fromOption(decode(text)),
          () => new SchemaIssue.InvalidValue({ message: allowed[name] })
        ),
      encode: (value: A) => Effect.succeed(encode(value))
    })
  ))

const text = (name: Name) =>
  Schema.String.annotate({ description: allowed[name] }).check(Schema.makeFilter((value) => isText(value)))

const LimitText = textFor("limit", Schema.Finite, (value) => limitOf(value), String)

const LimitNumber = Schema.Finite.annotate({ description: allowed.limit })
  .check(Schema.isInt(), Schema.isBetween({ minimum: 1, maximum: highestLimit }))

const State = Schema.Literals(rowStates).annotate({ description: allowed.state })

const filters = {
  state: Schema.optionalKey(State),
  /** Decoded to the backend's key. */
  backend: Schema.optionalKey(textFor("backend", Schema.String, (value) => keyOf(value), (key) => key)),
  event: Schema.optionalKey(text("event")),
  since: Schema.optionalKey(textFor("since", Received, (value) => receivedOf(value), (received) => sinceText(received)))
}

/** The text of a cursor. Only the server reads it, with `rowAt`. */
const Cursor = Schema.optionalKey(Schema.String.annotate({ description: allowed.cursor }))

/** The parameters of a list. */
export const ListParameters = Schema.Struct({
  ...filters,
  guid: Schema.optionalKey(text("guid")),
  limit: Schema.optionalKey(LimitText),
  cursor: Cursor
})

/** The parameters of showing one delivery: whether payloads are shown. */
export const ShowParameters = Schema.Struct({
  body: Schema.optionalKey(Schema.Boolean.annotate({ description: allowed.body }))
})

/** The parameters of redelivering one delivery. */
export const RedeliverParameters = Schema.Struct({ backend: filters.backend })

/** The parameters of redelivering all that match. */
export const RedeliverMatchingParameters = Schema.Struct({
  ...filters,
  state: Schema.optionalKey(State.annotate({ default: redeliveredState })),
  limit: Schema.optionalKey(Schema.Union([LimitNumber, LimitText]).annotate({ default: highestLimit })),
  cursor: Cursor
})

/** The parameters of looking for missing deliveries. */
export const RecoverParameters = Schema.Struct({
  since: filters.since,
  event: filters.event,
  dryRun: Schema.optionalKey(Schema.Boolean.annotate({ description: allowed.dryRun, default: false }))
})

/** The parameters of asking how far recovery is. */
export const StatusParameters = Schema.Struct({ run: Schema.optionalKey(text("run")) })

/** Unknown parameters are refused, and a refusal can name the value. */
export const strictly: SchemaAST.ParseOptions = { onExcessProperty: "error", reportInput: true }

/** The one line that refuses parameters: it names the first bad one, its value and what is allowed. */
export const reasonOf = (issue: SchemaIssue.Issue): string => {
  if (!Predicate.isTagged(issue, "Composite") || !Predicate.isTagged(issue.ast, "Objects")) return String(issue)
  const [first] = issue.issues
  const name = Predicate.isTagged(first, "Pointer") ? String(first.path[0]) : ""
  const known = issue.ast.propertySignatures.map((property) => String(property.name))
  return known.includes(name)
    ? invalid(name as Name, (issue.input as Readonly<Record<string, unknown>>)[name])
    : `unknown parameter ${shown(name)}: known are ${known.join(", ")}`
}

/** The same for the parameters of a query, in which a name may come twice. */
export const refusalOfQuery = (issue: SchemaIssue.Issue): string => {
  const reason = reasonOf(issue)
  const twice = Object.entries(issue.input ?? {}).find(([, value]) => Array.isArray(value))
  return twice === undefined || reason.startsWith("unknown parameter") ? reason : `${twice[0]} is given twice`
}

/** The row that a cursor names, or the line that refuses it. */
export const rowAt = (cursor: string): Result.Result<RowName, string> => {
  const [, id, key = ""] = isText(cursor) ? cursorPattern.exec(cursor) ?? [] : []
  return id === undefined ? Result.fail(invalid("cursor", cursor)) : Result.succeed({ id, key })
}

/** A cursor as text: the id of a delivery, and for one of its rows also the key of the backend. */
export const cursorText = ({ id, key }: RowName): string => key === "" ? id : `${id} ${key}`

/** A time or an age, in the form in which `since` is given. */
export const sinceText = (received: Received): string =>
  "since" in received ? isoTime(received.since) : GoDuration.format(Duration.millis(received.age))

/** Whether the text could be in a header. Databases refuse some of the others. */
export const isText = (value: string): boolean => value !== "" && printable(value) === value

const invalid = (name: Name, value: unknown): string => `invalid ${name} ${shown(value)}: ${allowed[name]}`

const shown = (value: unknown): string => printable((JSON.stringify(value) ?? "nothing").slice(0, 256))

/** Ids are UUIDs (RFC 9562 §4). */
const cursorPattern = /^([\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})(?: (.+))?$/i

const keyOf = (value: string) => Option.map(Result.getSuccess(Backend.parse(value, "dynamic")), ({ key }) => key)

const limitOf = (value: string) => {
  const limit = /^\d+$/.test(value) ? Number(value) : 0
  return limit >= 1 && limit <= highestLimit ? Option.some(limit) : Option.none()
}

/** RFC 3339 §5.6. */
const timePattern = /^(\d{4}-\d\d-\d\d)[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/

const receivedOf = (given: string): Option.Option<Received> => {
  // In a query an unescaped plus sign is a space: 2026-01-02T03:04:05+01:00.
  const value = given.replace(/ (?=\d\d:\d\d$)/, "+")
  const date = timePattern.exec(value)?.[1]
  if (date !== undefined) {
    const time = Date.parse(value.toUpperCase())
    return Number.isNaN(time) || !isDate(date) ? Option.none() : Option.some({ since: time })
  }
  return Result.getSuccess(GoDuration.parse(value)).pipe(
    Option.filter(Duration.isPositive),
    Option.map((duration) => ({ age: Duration.toMillis(duration) }))
  )
}

/** JavaScript takes the 30th of February for the 2nd of March. */
const isDate = (date: string) => new Date(`${date}T00:00:00Z`).toISOString().startsWith(date)
