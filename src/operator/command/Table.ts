/**
 * Stored deliveries as text for people.
 *
 * **Details**
 *
 * Times are UTC. On a terminal, a line of the list that is too long loses its end; in a file or a pipe nothing is lost.
 * Text from outside stays on one line and can't move the cursor.
 */
import * as Duration from "effect/Duration"
import { printable } from "../../domain/Text.ts"
import * as GoDuration from "../../settings/GoDuration.ts"
import type { ListedDelivery, ShownDelivery } from "../Answers.ts"
import { bold, coloured, cut, utc, type Width } from "./Text.ts"

type Row = ListedDelivery["backends"][number]
type Recovery = NonNullable<ShownDelivery["recovery"]>
type Attempt = ShownDelivery["backends"][number]["attempts"][number]

/** One line for each delivery, and below it one for each of its backends. */
export const list = (deliveries: ReadonlyArray<ListedDelivery>, { columns, hasColours }: Width): string =>
  deliveries.flatMap((delivery) => [
    cut(
      columns,
      `${utc(delivery.receivedAt)}  ${(delivery.event ?? "-").padEnd(27)}  ${size(delivery.bodyLength).padStart(9)}  ` +
        (delivery.guid ?? delivery.id)
    ),
    ...delivery.backends.map((row) =>
      coloured(
        hasColours,
        colourOf(row),
        cut(
          columns,
          `  ${row.state.padEnd(9)}  ${tries(row.tries).padStart(9)}  ${(row.lastOutcome ?? "-").padEnd(11)}  ` +
            `${whenOf(row).padEnd(20)}  ${row.url}`
        )
      )
    )
  ]).map((line) => `${line}\n`).join("")

/** The line above `list`. */
export const listHeading = ({ columns, hasColours }: Width): string =>
  `${
    bold(
      hasColours,
      cut(columns, `${"RECEIVED (UTC)".padEnd(19)}  ${"EVENT".padEnd(27)}  ${"SIZE".padStart(9)}  GUID`)
    )
  }\n`

/** All that is known of one delivery. Its lines are never cut. */
export const show = (delivery: ShownDelivery, { hasColours }: Pick<Width, "hasColours">): string => {
  const facts: ReadonlyArray<readonly [name: string, value: string]> = [
    ["delivery", delivery.guid ?? "-"],
    ["id", delivery.id],
    ["event", delivery.event ?? "-"],
    ["received", `${utc(delivery.receivedAt)} UTC`],
    ...delivery.recovery === undefined ? [] : [["recovery", recoveryText(delivery.recovery)] as const],
    ["request id", delivery.requestId],
    ["hook id", delivery.hookId ?? "-"],
    ["size", size(delivery.bodyLength)],
    ["request", delivery.target === null ? "no longer kept" : `${delivery.method} ${delivery.target}`],
    ["signature", signatures[delivery.signature]]
  ]
  return [
    ...facts.map(([name, value]) => `${bold(hasColours, name.padEnd(10))}  ${printable(value)}`),
    ...delivery.headers === null ? [] : [
      bold(hasColours, "headers, as they go out"),
      ...delivery.headers.map(([name, value]) => printable(`  ${name}: ${value}`))
    ],
    ...delivery.backends.flatMap((row) => [
      coloured(
        hasColours,
        colourOf(row),
        printable(`${row.state}, ${tries(row.tries)}${rowEnd(row)}: ${row.url}`)
      ),
      ...row.attempts.map((attempt) => printable(attemptLine(attempt)))
    ]),
    ...delivery.body === undefined ? [] : [bold(hasColours, "body"), ...bodyLines(delivery)]
  ].map((line) => `${line}\n`).join("")
}

const signatures: Readonly<Record<ShownDelivery["signature"], string>> = {
  valid: "valid",
  "no longer valid": "no longer valid: the secret has changed, and a backend would take the delivery and drop it",
  unchecked: "unchecked"
}

/** `failed at GitHub 2026-01-02 03:04:05 UTC; asked for twice, …; arrived 1h2m3s late`. */
const recoveryText = ({ askedAt, failedAt, late, reason, requests, state }: Recovery): string =>
  [
    `failed at GitHub ${utc(failedAt)} UTC`,
    requests === 0 || askedAt === null
      ? "not asked for"
      : `asked for ${requests === 1 ? "once" : `${requests} times, the last time`} ${utc(askedAt)} UTC`,
    late !== null
      ? `${state} ${GoDuration.format(Duration.seconds(Math.round(late)))} late`
      : reason === null
      ? state
      : `${state}: ${reason}`
  ].join("; ")

const attemptLine = ({ answer, at, error, latency, outcome, status }: Attempt): string =>
  [
    `  ${utc(at)}`,
    outcome.padEnd(11),
    String(status ?? "-").padStart(3),
    `${latency.toFixed(3)} s`.padStart(9),
    ...error === null ? [] : [error],
    ...answer === null || answer === "" ? [] : [JSON.stringify(answer)]
  ].join("  ")

const whenOf = ({ dueAt, settledAt, underWay }: Row): string =>
  underWay ? "under way" : dueAt !== null ? `due ${shortUtc(dueAt)}` : settledAt === null ? "" : shortUtc(settledAt)

const rowEnd = (row: Row): string => {
  const when = whenOf(row)
  return when === "" ? "" : `, ${when}`
}

const bodyLines = ({ body = "", bodyEncoding }: ShownDelivery): ReadonlyArray<string> =>
  (bodyEncoding === "utf8" ? indented(body) : body).split(/\r?\n/).map(printable)

/** GitHub sends JSON on one line, so it is indented here. */
const indented = (body: string): string => {
  try {
    return JSON.stringify(JSON.parse(body), null, 2)
  } catch {
    return body
  }
}

const tries = (count: number): string => count === 1 ? "1 try" : `${count} tries`

const shortUtc = (time: string): string => utc(time).slice("2026-".length)

const size = (bytes: number): string =>
  bytes < 1_000
    ? `${bytes} B`
    : bytes < 1_000_000
    ? `${(bytes / 1_000).toFixed(1)} kB`
    : `${(bytes / 1e6).toFixed(1)} MB`

const colours: Readonly<Record<string, "red" | "yellow" | "green" | "gray">> = {
  dead: "red",
  pending: "yellow",
  delivered: "green",
  rejected: "gray",
  cancelled: "gray"
}

const colourOf = ({ state }: Row) => colours[state] ?? "reset"
