/**
 * Which deliveries an operator asks for: the parameters of `/deliveries`, from a query or from JSON.
 *
 * **Details**
 *
 * Anything that is not known is refused: a filter with a misspelt name would match more than was meant.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Backend from "../domain/Backend.ts"
import { printable } from "../settings/Definition.ts"
import * as GoDuration from "../settings/GoDuration.ts"
import { type DeliveryFilter, type RowName, rowStates } from "../store/DeliveryStore.ts"

/** A parameter is unknown or has a bad value. `reason` is one line that names it, its value and what is allowed. */
export class InvalidParameter extends Schema.TaggedError<InvalidParameter>()("InvalidParameter", {
  reason: Schema.String
}) {}

export interface DeliveryQuery {
  readonly filter: DeliveryFilter
  /** 1 to 500. */
  readonly limit: number | undefined
  /** What comes after this. */
  readonly cursor: RowName | undefined
  /** Whether payloads are shown. */
  readonly body: boolean
}

/** Most deliveries on a page, and most rows that one request sends again. */
export const highestLimit = 500

/** The names of what a list can be asked for, and of what can be sent again. */
export const listParameters = ["state", "backend", "event", "since", "guid", "limit", "cursor"] as const
export const redeliverParameters = ["state", "backend", "event", "since", "limit", "cursor"] as const

/** The parameters of a query string, without its `?`. */
export const ofQuery = (query: string): ReadonlyArray<readonly [name: string, value: string]> =>
  Array.from(new URLSearchParams(query))

/** Reads parameters of which only those `known` are allowed. */
export const parse = (
  parameters: ReadonlyArray<readonly [name: string, value: unknown]>,
  known: ReadonlyArray<string>
): Result.Result<DeliveryQuery, InvalidParameter> => {
  const values = new Map<string, unknown>()
  for (const [name, value] of parameters) {
    if (!known.includes(name)) return refuse(`unknown parameter ${shown(name)}: known are ${known.join(", ")}`)
    if (values.has(name)) return refuse(`${name} is given twice`)
    values.set(name, value)
  }
  const read = <A>(name: string, allowed: string, decode: (value: unknown) => Option.Option<A>) => {
    const value = values.get(name)
    if (value === undefined) return Result.succeed(undefined)
    return Option.match(decode(value), {
      onNone: () => refuse(`invalid ${name} ${shown(value)}: ${allowed}`),
      onSome: (decoded) => Result.succeed<A | undefined>(decoded)
    })
  }
  return Result.gen(function*() {
    const state = yield* read("state", `a state is ${rowStates.join(", ")}`, stateOf)
    const backend = yield* read("backend", "a backend is a url like https://pac.example.com", backendOf)
    const event = yield* read("event", "an event is a name like push", textOf)
    const guid = yield* read("guid", "a guid is the value of X-GitHub-Delivery", textOf)
    const received = yield* read(
      "since",
      "since is a time like 2026-01-02T03:04:05Z, or a duration back from now like 24h",
      timeOf
    )
    const limit = yield* read("limit", `a limit is a whole number from 1 to ${highestLimit}`, limitOf)
    const cursor = yield* read("cursor", "a cursor is the next of another answer", cursorOf)
    const body = yield* read("body", "body is true or false", switchOf)
    return { filter: { state, backend, event, guid, ...received }, limit, cursor, body: body ?? false }
  })
}

const refuse = (reason: string) => Result.fail(new InvalidParameter({ reason }))

const shown = (value: unknown): string => printable((JSON.stringify(value) ?? "nothing").slice(0, 256))

const stateOf = (value: unknown) => Option.fromNullishOr(rowStates.find((state) => state === value))

const backendOf = (value: unknown) =>
  typeof value === "string"
    ? Option.map(Result.getSuccess(Backend.parse(value, "dynamic")), ({ key }) => key)
    : Option.none()

/** Whether it could be in a header: databases refuse some of the rest. */
export const isText = (value: string): boolean => value !== "" && printable(value) === value

const textOf = (value: unknown) => typeof value === "string" && isText(value) ? Option.some(value) : Option.none()

const switchOf = (value: unknown) =>
  value === "true" || value === "false" ? Option.some(value === "true") : Option.none()

/** RFC 3339 §5.6. */
const timePattern = /^(\d{4}-\d\d-\d\d)[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/

/** What "now" is, the store says: its clock has seen what was received. */
const timeOf = (given: unknown): Option.Option<Pick<DeliveryFilter, "age" | "since">> => {
  if (typeof given !== "string") return Option.none()
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

const limitOf = (value: unknown) => {
  const limit = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value
  return typeof limit === "number" && Number.isInteger(limit) && limit >= 1 && limit <= highestLimit
    ? Option.some(limit)
    : Option.none()
}

/** A cursor as text: an id, and for one row of its delivery the backend too. */
export const cursorText = ({ id, key }: RowName): string => key === "" ? id : `${id} ${key}`

/** Ids are UUIDs (RFC 9562 §4). */
const cursorPattern = /^([\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})(?: (.+))?$/i

const cursorOf = (value: unknown): Option.Option<RowName> => {
  const [, id, key = ""] = typeof value === "string" && isText(value) ? cursorPattern.exec(value) ?? [] : []
  return id === undefined ? Option.none() : Option.some({ id, key })
}
