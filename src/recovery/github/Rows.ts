/** The rows of GitHub's log, as its API writes them: https://docs.github.com/rest/apps/webhooks */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { LoggedAttempt } from "../GitHubLog.ts"

/** Octokit reads whole numbers beyond 2^53 as bigint. */
const Id = Schema.Union([Schema.Int, Schema.BigInt])

const Time = Schema.String.check(Schema.makeFilter((text) => !Number.isNaN(Date.parse(text))))

const Page = Schema.Array(Schema.Struct({
  id: Id,
  guid: Schema.String,
  delivered_at: Time,
  redelivery: Schema.Boolean,
  status_code: Schema.Number,
  event: Schema.String,
  action: Schema.optionalKey(Schema.NullOr(Schema.String)),
  installation_id: Schema.optionalKey(Schema.NullOr(Id)),
  repository_id: Schema.optionalKey(Schema.NullOr(Id)),
  throttled_at: Schema.optionalKey(Schema.NullOr(Time))
}))

/** A page of the log. Undefined: it is none. */
export const attemptsOf = (page: unknown): ReadonlyArray<LoggedAttempt> | undefined =>
  Result.match(Schema.decodeUnknownResult(Page)(page), {
    onFailure: () => undefined,
    onSuccess: (rows) =>
      rows.map((row) => ({
        id: String(row.id),
        guid: row.guid,
        deliveredAt: Date.parse(row.delivered_at),
        redelivery: row.redelivery,
        statusCode: row.status_code,
        event: row.event,
        action: row.action ?? undefined,
        installationId: row.installation_id == null ? undefined : String(row.installation_id),
        repositoryId: row.repository_id == null ? undefined : String(row.repository_id),
        throttledAt: row.throttled_at == null ? undefined : Date.parse(row.throttled_at)
      }))
  })

const Detail = Schema.Struct({
  request: Schema.Struct({ headers: Schema.NullOr(Schema.Record(Schema.String, Schema.Unknown)) })
})

/** The hook id in the detail of an attempt. Undefined: it has none. */
export const hookIdIn = (detail: unknown): string | undefined =>
  Result.match(Schema.decodeUnknownResult(Detail)(detail), {
    onFailure: () => undefined,
    onSuccess: ({ request }) => {
      const [, id] = Object.entries(request.headers ?? {}).find(([name]) =>
        name.toLowerCase() === "x-github-hook-id"
      ) ??
        []
      return typeof id === "string" || typeof id === "number" || typeof id === "bigint" ? String(id) : undefined
    }
  })
