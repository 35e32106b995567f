/** What a registration asks for beside its URL: for how long, and which deliveries. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as BackendFilter from "../domain/BackendFilter.ts"
import * as RepositoryPattern from "../domain/RepositoryPattern.ts"
import * as GoDuration from "../settings/GoDuration.ts"

/** The members of a registration's JSON, as they came. An absent one, or null, asks for nothing. */
export interface Given {
  readonly ttl: unknown
  readonly repositories: unknown
  readonly events: unknown
}

export interface RegistrationTerms {
  readonly ttl: Duration.Duration | undefined
  readonly filter: BackendFilter.BackendFilter | undefined
}

/** A member is not what it may be. `reason` names it, its value and what is allowed. */
export class InvalidTerms extends Schema.TaggedError<InvalidTerms>()("InvalidTerms", { reason: Schema.String }) {}

export const parse = ({ events, repositories, ttl }: Given): Result.Result<RegistrationTerms, InvalidTerms> =>
  Result.gen(function*() {
    const patterns = yield* parseList(
      "repositories",
      repositories,
      RepositoryPattern.parse,
      RepositoryPattern.patternRule
    )
    const words = yield* parseList("events", events, eventOf, BackendFilter.eventRule)
    return { ttl: yield* parseTtl(ttl), filter: BackendFilter.make(patterns, words) }
  })

const parseTtl = (ttl: unknown): Result.Result<Duration.Duration | undefined, InvalidTerms> => {
  if (isAbsent(ttl)) return Result.succeed(undefined)
  const parsed = typeof ttl === "string" ? Result.getSuccess(GoDuration.parse(ttl)) : Option.none()
  if (Option.isSome(parsed) && Duration.isPositive(parsed.value)) return Result.succeed(parsed.value)
  return refuse("ttl", ttl, "a ttl is a duration above zero, like \"24h\" or \"1h30m\"")
}

const parseList = (
  member: string,
  list: unknown,
  read: (text: string) => string | undefined,
  rule: string
): Result.Result<ReadonlyArray<string> | undefined, InvalidTerms> => {
  if (isAbsent(list)) return Result.succeed(undefined)
  if (!Array.isArray(list) || list.length === 0 || list.length > mostValues) {
    return refuse(member, list, `it is a list of 1 to ${mostValues} texts; ${rule}`)
  }
  const values: Array<string> = []
  for (const item of list as ReadonlyArray<unknown>) {
    const value = typeof item === "string" ? read(item) : undefined
    if (value === undefined) return refuse(`an item of ${member}`, item, rule)
    values.push(value)
  }
  return Result.succeed(values)
}

const eventOf = (text: string) => BackendFilter.isEvent(text) ? text : undefined

const isAbsent = (value: unknown): boolean => value === undefined || value === null

const refuse = (member: string, value: unknown, rule: string) =>
  Result.fail(new InvalidTerms({ reason: `${member} is ${JSON.stringify(value).slice(0, 64)}; ${rule}` }))

/** Each is looked up once a delivery, and all are kept with the backend. */
const mostValues = 1_000
