/** The bodies of the API's answers. Ids are written digit by digit: they are too large for a number. */
import type { Attempt } from "./Attempts.ts"
import { example, type Payload } from "./Delivery.ts"
import type { HookIdentity } from "./Headers.ts"

const time = (millis: number): string => new Date(millis).toISOString()

const withId = (id: string, rest: Payload): string => `{"id":${id},${JSON.stringify(rest).slice(1)}`

/** The field `id` of an object in a payload. */
const idIn = (owner: unknown): number | null => (owner as { readonly id?: number } | undefined)?.id ?? null

const rowOf = ({ delivery, ...attempt }: Attempt): Payload => ({
  guid: delivery.guid,
  delivered_at: time(attempt.deliveredAt),
  redelivery: attempt.redelivery,
  duration: attempt.duration,
  status: attempt.status,
  status_code: attempt.statusCode,
  event: delivery.event,
  action: delivery.payload["action"] ?? null,
  installation_id: idIn(delivery.payload["installation"]),
  repository_id: idIn(delivery.payload["repository"]),
  throttled_at: attempt.throttledAt === undefined ? null : time(attempt.throttledAt)
})

export const listing = (attempts: ReadonlyArray<Attempt>): string =>
  `[${attempts.map((attempt) => withId(attempt.id, rowOf(attempt))).join(",")}]`

export const detail = (attempt: Attempt): string =>
  withId(attempt.id, {
    ...rowOf(attempt),
    url: attempt.url,
    request: { headers: attempt.delivery.headers, payload: attempt.delivery.payload },
    response: attempt.response ?? { headers: null, payload: null }
  })

export const app = ({ appId }: HookIdentity, clientId: string): string =>
  withId(appId, {
    client_id: clientId,
    slug: "pipelines",
    node_id: "MDM6QXBwNzk5MjkxNzE=",
    owner: (example("installation", "created")["installation"] as Payload)["account"],
    name: "Pipelines",
    description: null,
    external_url: "https://pipelines.example.com",
    html_url: "https://github.com/apps/pipelines",
    created_at: time(Date.UTC(2025, 0, 2)),
    updated_at: time(Date.UTC(2025, 0, 3)),
    permissions: { checks: "write", contents: "read", metadata: "read" },
    events: ["check_run", "check_suite", "issue_comment", "pull_request", "push"],
    installations_count: 1
  })

export const hookConfig = (url: string): string =>
  JSON.stringify({ content_type: "json", insecure_ssl: "0", secret: "********", url })

/** A request that can't be processed is published without its status. */
export const problem = (status: number, message: string, errors?: ReadonlyArray<Payload>): string =>
  JSON.stringify({
    message,
    ...(errors === undefined ? {} : { errors }),
    documentation_url: "https://docs.github.com/rest",
    ...(status === 422 ? {} : { status: String(status) })
  })
