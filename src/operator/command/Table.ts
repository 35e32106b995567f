/**
 * Stored deliveries as text for people.
 *
 * **Details**
 *
 * Times are UTC. On a terminal, a line of the list that is too long loses its end; in a file or a pipe nothing is lost.
 * Text from outside stays on one line and can't move the cursor.
 */
import { styleText } from "node:util"
import { printable } from "../../domain/Text.ts"
import type { ListedDelivery, ShownDelivery } from "../Answers.ts"
import type { Output } from "./Output.ts"

type Width = Pick<Output["Service"], "columns" | "hasColours">
type Row = ListedDelivery["backends"][number]
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
        row.state,
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
        row.state,
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

/** `2026-01-02T03:04:05.678Z` as `2026-01-02 03:04:05`. */
const utc = (time: string): string => time.slice(0, 19).replace("T", " ")

const shortUtc = (time: string): string => utc(time).slice("2026-".length)

const size = (bytes: number): string =>
  bytes < 1_000
    ? `${bytes} B`
    : bytes < 1_000_000
    ? `${(bytes / 1_000).toFixed(1)} kB`
    : `${(bytes / 1e6).toFixed(1)} MB`

const cut = (columns: number | undefined, line: string): string => {
  const text = printable(line)
  return columns === undefined || text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`
}

const colours: Readonly<Record<string, "red" | "yellow" | "green" | "gray">> = {
  dead: "red",
  pending: "yellow",
  delivered: "green",
  rejected: "gray",
  cancelled: "gray"
}

const coloured = (hasColours: boolean, state: string, line: string): string =>
  hasColours ? styleText(colours[state] ?? "reset", line, { validateStream: false }) : line

const bold = (hasColours: boolean, text: string): string =>
  hasColours ? styleText("bold", text, { validateStream: false }) : text
